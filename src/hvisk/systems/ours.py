"""CTranslate2 models with hvisk's own recogniser: every clip at its own length where the model was trained so.

What is evaluated is what `hvisk transcribe` gives: guarded, unless the guards are taken away.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hvisk
from hvisk import files
from hvisk.audio import SAMPLE_RATE
from hvisk.features import MAX_SECONDS
from hvisk.recogniser import longform
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.guards import ALL_GUARDS, LEFT_OUT, Guards
from hvisk.recogniser.hear import hear
from hvisk.style import Style
from hvisk.systems.system import System, size, versions

# What turns samples into text. A change in them makes another system of it, also between two versions of hvisk.
_SOURCES = (
    *("features.py", "tokens.py", "style.py", "behaviour.py"),
    *(f"recogniser/{name}.py" for name in ("engine", "hear", "longform", "vad", "guards", "credits")),
)


def open_directory(
    directory: Path,
    name: str | None = None,
    *,
    language: str = "da",
    style: Style | None = None,
    beam_size: int = 1,
    threads: int = 0,
    guards: Guards | None = ALL_GUARDS,
    parameters: int | None = None,
) -> System:
    """Open a CTranslate2 Whisper's directory; a clip that is longer than 30 s is cut at its pauses first.

    name: how to call it; by default its path. style: what it is asked to write; None is its own. guards: what becomes of
    texts that no one can have said; a text that is left out is empty here. None keeps them all. parameters: how many it
    has, where hvisk.json does not tell. Raises ModelError for a directory that holds no such model, or one that was not
    taught the style.
    """
    recogniser = Recogniser.load(directory, threads=threads).styled(style)

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        long = {i for i, clip in enumerate(clips) if len(clip) > MAX_SECONDS * SAMPLE_RATE}
        short = [clip for i, clip in enumerate(clips) if i not in long]
        heard = hear(recogniser, short, language=language, beam_size=beam_size, guards=guards)
        texts = iter(["" if item.doubt in LEFT_OUT else item.result.text for item, _ in heard])
        return [whole(clip) if i in long else next(texts) for i, clip in enumerate(clips)]

    def whole(clip: NDArray[np.float32]) -> str:
        found = longform.transcribe(recogniser, clip, language=language, beam_size=beam_size, guards=guards)
        return " ".join(segment.text for segment in found.segments)

    return System(
        name=name or directory.as_posix(),
        kind="hvisk",
        recognise=recognise,
        settings={
            "model": name or directory.as_posix(),
            "model_sha256": files.sha256(directory / "model.bin"),
            "language": language,
            **({"style": style} if style else {}),
            "beam_size": beam_size,
            "guards": asdict(guards) if guards else None,
        },
        parameters=recogniser.about.get("parameters", parameters),
        bytes=size([directory / "model.bin"]),
        software=f"hvisk {hvisk.__version__} ({_source()}), {versions('ctranslate2')}",
        batch_seconds=240.0,
        about=recogniser.about,
        recognise_long=whole,
    )


def _source() -> str:
    root = Path(hvisk.__file__).parent
    return hashlib.sha256(b"".join((root / name).read_bytes() for name in _SOURCES)).hexdigest()[:8]
