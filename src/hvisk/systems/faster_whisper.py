"""faster-whisper: CTranslate2 with SYSTRAN's own loop around it, clip by clip, padded to 30 s."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvisk import files, models
from hvisk.errors import ModelError
from hvisk.systems.system import System, size, versions


def open_faster_whisper(model: str, name: str, *, language: str = "da", beam_size: int = 1, threads: int = 0) -> System:
    """Open one of faster-whisper's sizes ("small"), a Hub id of a CTranslate2 Whisper, or a directory.

    A directory may hold a Hugging Face Whisper too, which is then converted as for hvisk's own recogniser. Decoding is
    without sampling: no fallback to higher temperatures. Raises ModelError for what cannot be opened.
    """
    from faster_whisper import WhisperModel
    from faster_whisper.utils import download_model

    try:
        directory = models.recognisable(model) if Path(model).is_dir() else Path(download_model(model))
        whisper = WhisperModel(str(directory), device="cpu", cpu_threads=threads)
    except (OSError, ValueError, RuntimeError) as error:  # not there and not fetched; no such size; damaged
        raise ModelError(
            f"faster-whisper cannot open '{model}': {' '.join(str(error).split())} Accepted after faster-whisper: are a "
            "directory with a CTranslate2 or Hugging Face Whisper, a size such as small, or a Hub id."
        ) from error

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        texts = []
        for clip in clips:
            segments, _ = whisper.transcribe(clip, language=language, beam_size=beam_size, temperature=0.0)
            texts.append("".join(segment.text for segment in segments).strip())
        return texts

    return System(
        name=name,
        kind="faster-whisper",
        recognise=recognise,
        settings={
            "model": name,
            "model_sha256": files.sha256(directory / "model.bin"),
            "system": "faster-whisper",
            "language": language,
            "beam_size": beam_size,
            "temperature": 0.0,
        },
        bytes=size([directory / "model.bin"]),
        software=versions("faster-whisper", "ctranslate2"),
    )
