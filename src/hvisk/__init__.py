"""Small Danish speech recognisers: made, measured and run.

    import hvisk
    transcript = hvisk.load().transcribe("interview.m4a")
    hvisk.save(transcript, "interview.srt")

Importing this loads nothing; the functions load what they need.
"""

import os

# ONNX Runtime, from 1.29 on, tells Microsoft of each process and leaves a device id in ~/.cache, unless this is set before
# it is imported (https://github.com/microsoft/onnxruntime/pull/27379). Here nothing leaves the machine unasked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

TYPE_CHECKING = False  # for type checkers alone: importing typing takes ten times as long as all of this
if TYPE_CHECKING:
    from pathlib import Path

    from hvisk.recogniser.longform import Transcript
    from hvisk.recogniser.transcriber import Transcriber

__version__ = "0.1.0"
__all__ = ["__version__", "load", "save"]


def load(model: "str | Path | None" = None, *, threads: int = 0, compute_type: str = "default") -> "Transcriber":
    """Load a model to transcribe with.

    model: a directory, a Hub id such as "openai/whisper-tiny", or None for what `hvisk transcribe` takes by default; see
    `hvisk.models.recognisable`. A model that is not here is fetched, and one of Hugging Face's is converted, once.
    threads: cores to use; 0 is all. compute_type: one of CTranslate2's. Raises ModelError where there is no such model.
    """
    from hvisk import models
    from hvisk.recogniser.engine import Recogniser
    from hvisk.recogniser.transcriber import Transcriber

    directory = models.recognisable(None if model is None else str(model))
    return Transcriber(Recogniser.load(directory, threads=threads, compute_type=compute_type))


def save(transcript: "Transcript", path: "str | Path", *, name: str | None = None) -> None:
    """Write a transcript to a file in the form that its ending names: txt, srt, vtt, tsv, json or docx; atomically.

    name: what a Word document calls the recording. Subtitles are timed best with `transcribe(..., words=True)`. Raises
    HviskError for another ending, MissingExtra for docx without python-docx.
    """
    from hvisk.recogniser import writers

    writers.save(transcript, path, name=name)
