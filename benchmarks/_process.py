"""One sound through one runtime as a process of its own, and how long it took and how much memory.

python _process.py measure COMMAND ...           a JSON object: seconds, first (to its first byte of output), peak_mb, text
python _process.py RUNTIME MODEL SOUND THREADS BEAM [CHUNK]   the text; CHUNK: seconds of a window in faster-whisper's batches

Whoever measures must be small: Linux counts the peak of whoever started a process as the process's own. So nothing is imported
here but what the runtime itself needs.
"""

import json
import os
import subprocess
import sys
import time


def measure(command: list[str]) -> None:
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    output = os.read(process.stdout.fileno(), 1)
    first = time.perf_counter() - began
    output += process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    found = {"seconds": seconds, "first": first, "peak_mb": peak, "text": output.decode(), "code": status}
    print(json.dumps(found))


def faster_whisper(model: str, sound: str, threads: int, beam: int, chunk: int = 0) -> None:
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    whisper = WhisperModel(model, device="cpu", cpu_threads=threads, compute_type="int8")
    settings = {"language": "da", "beam_size": beam, "temperature": 0.0, "without_timestamps": True}
    if chunk:
        batched = BatchedInferencePipeline(whisper)
        segments, _ = batched.transcribe(sound, batch_size=16, chunk_length=chunk, **settings)
    else:
        segments, _ = whisper.transcribe(sound, vad_filter=True, condition_on_previous_text=False, **settings)
    for segment in segments:
        print(segment.text, flush=True)


def whisper_cpp(model: str, sound: str, threads: int, beam: int) -> None:
    import soundfile
    from pywhispercpp.model import Model

    whisper = Model(
        model,
        params_sampling_strategy=int(beam > 1),
        redirect_whispercpp_logs_to=None,
        n_threads=threads,
        language="da",
        temperature_inc=0.0,
        print_progress=False,
        print_realtime=False,
        **({"beam_search": {"beam_size": beam, "patience": -1.0}} if beam > 1 else {}),
    )
    for segment in whisper.transcribe(soundfile.read(sound, dtype="float32")[0]):
        print(segment.text, flush=True)


def transformers(model: str, sound: str, threads: int, beam: int) -> None:
    import soundfile
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    samples, rate = soundfile.read(sound, dtype="float32")
    asr = pipeline("automatic-speech-recognition", model=model, device="cpu")
    # Beyond a window Whisper goes from timestamp to timestamp, so that it must write them.
    long = {"return_timestamps": True} if len(samples) > 30 * rate else {}
    settings = {"language": "da", "task": "transcribe", "num_beams": beam, "max_new_tokens": 440}
    print(asr({"raw": samples, "sampling_rate": rate}, generate_kwargs=settings, **long)["text"])


def openai_whisper(model: str, sound: str, threads: int, beam: int) -> None:
    import soundfile
    import torch
    import whisper

    torch.set_num_threads(threads)
    net = whisper.load_model(model)
    settings = {"beam_size": beam} if beam > 1 else {}
    samples = soundfile.read(sound, dtype="float32")[0]
    found = net.transcribe(
        samples, language="da", temperature=0.0, fp16=False, condition_on_previous_text=False, **settings
    )
    print(found["text"])


RUNTIMES = {
    "faster-whisper": faster_whisper,
    "whisper.cpp": whisper_cpp,
    "transformers": transformers,
    "openai-whisper": openai_whisper,
}

if __name__ == "__main__":
    if sys.argv[1] == "measure":
        measure(sys.argv[2:])
    else:
        runtime, model, sound, *numbers = sys.argv[1:]
        RUNTIMES[runtime](model, sound, *map(int, numbers))
