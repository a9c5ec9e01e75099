"""A speech recogniser of whatever make, as evaluation sees it: a function from clips to texts, and what it is.

A system's `recognise` takes float32 mono clips at 16 kHz, of any length, and returns one text each, in their order.
What it raises is about the clips that it was given, unless it is Unavailable: then no other clip would fare better.
"""

import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from hvisk.errors import MissingExtra
from hvisk.predictions import Prediction

Recognise = Callable[[Sequence[NDArray[np.float32]]], list[str]]


@dataclass(frozen=True, eq=False)
class System:
    """A recogniser that is ready to be asked.

    name: as the user wrote it. kind: "hvisk", "transformers", "faster-whisper", "whisper.cpp", "openai-whisper", "api"
    or "predictions". settings: what decides its texts, in JSON's types; `model_sha256` or `revision` is among them
    where the weights can be known, and `deterministic` is false where a clip's text depends on more than they say.
    parameters, bytes: its size, on disk; None where that cannot be known. software: packages and versions.
    batch_seconds: audio between two writes of the predictions, which is what a kill can cost. known: predictions by
    clip id, of a system that is a file and recognises nothing. recognise_long: one recording of any length -> its text,
    where the system has a way of its own to cut it. about: the hvisk.json of a model of ours.
    """

    name: str
    kind: str
    recognise: Recognise
    settings: dict[str, Any]
    parameters: int | None = None
    bytes: int | None = None
    software: str = ""
    batch_seconds: float = 60.0
    known: dict[str, Prediction] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    recognise_long: Callable[[NDArray[np.float32]], str] | None = None


def need(module: str, package: str, name: str) -> None:
    """Raise MissingExtra, with the command that installs `package`, unless `module` can be imported; none is."""
    if importlib.util.find_spec(module) is None:
        raise MissingExtra(
            f"The package '{module}' is needed to open {name} and is not installed. Run: pip install {package}"
        )


def versions(*packages: str) -> str:
    """Return "name version, name version" of installed packages."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def parameters(weights: Iterable[Path]) -> int | None:
    """Return how many numbers safetensors files hold, None where there are no such files."""
    counts = []
    for path in weights:
        with safetensors.safe_open(path, framework="numpy") as file:
            counts += [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    return sum(counts) if counts else None


def size(paths: Iterable[Path]) -> int | None:
    """Return the bytes of files on disk, None where there are none."""
    found = [path.stat().st_size for path in paths if path.is_file()]
    return sum(found) if found else None
