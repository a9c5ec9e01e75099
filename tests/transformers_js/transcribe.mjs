// Clips through Transformers.js on onnxruntime-web's WebAssembly, as in a browser without a GPU, the results as JSON.
// node transcribe.mjs MODEL_DIRECTORY DTYPE LIST_OF_OPTIONS FLOAT32_FILE...
import fs from 'node:fs';
import path from 'node:path';
import * as ort from 'onnxruntime-web';

// Under node the library would take onnxruntime-node; a runtime that stands here goes before it.
globalThis[Symbol.for('onnxruntime')] = ort;
const { env, pipeline } = await import('@huggingface/transformers');
const [directory, dtype, options, ...clips] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = path.dirname(directory);
env.useWasmCache = false;
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL('./node_modules/onnxruntime-web/dist/', import.meta.url).href; // else from a CDN
const recognise = await pipeline('automatic-speech-recognition', path.basename(directory), {
    dtype,
    device: 'auto',
    session_options: { executionProviders: ['wasm'] },
});
const sounds = clips.map((clip) => new Float32Array(new Uint8Array(fs.readFileSync(clip)).buffer));
const results = [];
for (const given of JSON.parse(options)) {
    const found = [];
    for (const sound of sounds) found.push(await recognise(sound, given));
    results.push(found);
}
console.log(JSON.stringify({ 'onnxruntime-web': ort.env.versions.web, results }));
