"""A local server as many are written: FastAPI around faster-whisper, OpenAI's route, no queue and no page.

python _serve_peer.py MODEL PORT THREADS

Each request is a call of its own, THREADS of them at once on a core each, which is faster than one call on THREADS cores; the
others wait in a pool of threads, so that the server still answers. Its port is open when the model is loaded.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, BinaryIO

import uvicorn
from fastapi import FastAPI, File, Form, UploadFile
from faster_whisper import WhisperModel


def build(directory: str, threads: int) -> FastAPI:
    whisper = WhisperModel(directory, device="cpu", compute_type="int8", cpu_threads=1, num_workers=threads)
    pool = ThreadPoolExecutor(threads)
    settings = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "condition_on_previous_text": False}
    app = FastAPI()

    def heard(file: BinaryIO, language: str) -> str:
        segments, _ = whisper.transcribe(file, language=language, vad_filter=True, **settings)
        return "".join(segment.text for segment in segments).strip()

    @app.post("/v1/audio/transcriptions")
    async def transcriptions(
        file: Annotated[UploadFile, File()], model: Annotated[str, Form()], language: Annotated[str, Form()] = "da"
    ) -> dict[str, str]:
        return {"text": await asyncio.get_running_loop().run_in_executor(pool, heard, file.file, language)}

    return app


if __name__ == "__main__":
    uvicorn.run(build(sys.argv[1], int(sys.argv[3])), port=int(sys.argv[2]), log_level="warning", access_log=False)
