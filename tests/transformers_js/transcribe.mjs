// A clip through Transformers.js on onnxruntime-web's WebAssembly, as in a browser without a GPU, the result as JSON.
// node transcribe.mjs MODEL_DIRECTORY DTYPE FLOAT32_FILE OPTIONS
import fs from 'node:fs';
import path from 'node:path';
import * as ort from 'onnxruntime-web';

// Under node the library would take onnxruntime-node; a runtime that stands here goes before it.
globalThis[Symbol.for('onnxruntime')] = ort;
const { env, pipeline } = await import('@huggingface/transformers');
const [directory, dtype, clip, options] = process.argv.slice(2);
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
const bytes = fs.readFileSync(clip);
const audio = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
console.log(JSON.stringify(await recognise(audio, { language: 'da', task: 'transcribe', ...JSON.parse(options) })));
