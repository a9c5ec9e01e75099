"""whisper.cpp, through pywhispercpp: ggml files on the CPU, clip by clip, padded to 30 s."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import files
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import ModelError
from hvisk.systems.system import System, need, size, versions

SHORTEST = 1.1  # seconds; below 1 s whisper.cpp says that the input is too short, and nothing else


def open_whisper_cpp(model: str, name: str, *, language: str = "da", beam_size: int = 1, threads: int = 0) -> System:
    """Open a ggml file, or one of pywhispercpp's names ("small-q5_1"), which it then downloads.

    Greedy decoding (a beam of 1) is repeatable. Beams are not: whisper.cpp draws their candidates at random, from a
    generator that lives as long as the model, so that a text depends on the clips before it. Such a system says in its
    settings that it is not deterministic. Neither falls back to higher temperatures. Raises MissingExtra, and
    ModelError for what cannot be opened.
    """
    need("pywhispercpp", "pywhispercpp", name)
    from pywhispercpp import constants
    from pywhispercpp.model import Model
    from pywhispercpp.utils import resolve_model_path

    if not Path(model).is_file() and model not in constants.AVAILABLE_MODELS:
        raise ModelError(
            f"There is no file '{model}', and whisper.cpp has no model of that name. Accepted after whisper.cpp: are a "
            f"ggml file, which hvisk export MODEL --to ggml makes, and: {', '.join(constants.AVAILABLE_MODELS)}."
        )
    options: dict[str, Any] = {"n_threads": threads} if threads else {}
    if beam_size > 1:
        options["beam_search"] = {"beam_size": beam_size, "patience": -1.0}
    try:
        path = Path(resolve_model_path(model))
        if path.read_bytes()[:4] != b"lmgg":  # the magic number, little-endian; whisper.cpp crashes on some other files
            raise ValueError("it is no ggml file")
        whisper = Model(
            str(path),
            params_sampling_strategy=int(beam_size > 1),
            redirect_whispercpp_logs_to=None,
            language=language,
            temperature_inc=0.0,
            print_progress=False,
            print_realtime=False,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"whisper.cpp cannot open '{model}': {error}. Make a ggml file with: hvisk export MODEL --to ggml"
        ) from error

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        texts = []
        for clip in clips:
            silence = max(0, round(SHORTEST * SAMPLE_RATE) - len(clip))
            segments = whisper.transcribe(np.pad(clip, (0, silence)))
            texts.append(" ".join(segment.text.strip() for segment in segments).strip())
        return texts

    return System(
        name=name,
        kind="whisper.cpp",
        recognise=recognise,
        settings={
            "model": name,
            "model_sha256": files.sha256(path),
            "system": "whisper.cpp",
            "language": language,
            "beam_size": beam_size,
            "temperature": 0.0,
            **({"deterministic": False} if beam_size > 1 else {}),
        },
        bytes=size([path]),
        software=versions("pywhispercpp"),
    )
