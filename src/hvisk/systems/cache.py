"""What systems said to clips before: one SQLite file, so that the same model never hears the same clip twice.

A text is found again by the system's settings without its name, its software with versions, and the clip's samples.
Corpora that share clips therefore share texts, whatever the clips are called there. A system whose weights cannot be
known, such as a remote one, is not remembered, nor one that draws lots, nor a clip on which a system failed. With each
text are kept the seconds that it took, on which day and machine: an evaluation out of the cache still knows its speed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hvisk.kept import Kept

_COLUMNS = {
    "text": "TEXT NOT NULL",
    "seconds": "REAL NOT NULL",
    "warm": "INTEGER NOT NULL",
    "measured": "TEXT NOT NULL",
}
_IDENTITIES = ("model_sha256", "revision")


class Answer(NamedTuple):
    """A text and the seconds that it took. warm: not the first of a process; measured: the day and the machine."""

    text: str
    seconds: float
    warm: bool
    measured: str


class Cache:
    """Texts of one system. Several processes may use the file at once."""

    def __init__(self, path: Path, settings: Mapping[str, Any], software: str) -> None:
        """Open or make the file. HviskError where it is no database, or lies where nothing can be written."""
        self.path = path
        what = {key: value for key, value in settings.items() if key != "model"}
        self.system = hashlib.sha256(json.dumps([what, software], sort_keys=True).encode()).digest()
        self.kept = Kept(path, _COLUMNS, "recognised clips")

    @classmethod
    def of(cls, path: Path | None, settings: Mapping[str, Any], software: str) -> Self | None:
        """Return the system's cache; None without a path, and where weights and clip do not decide the text."""
        repeatable = any(settings.get(key) for key in _IDENTITIES) and settings.get("deterministic", True)
        return cls(path, settings, software) if path and repeatable else None

    def key(self, clip: NDArray[np.float32]) -> str:
        """Return what a clip's text is kept under, from its samples."""
        return hashlib.sha256(self.system + np.ascontiguousarray(clip, dtype="<f4").tobytes()).hexdigest()

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return what is known of those keys of which anything is."""
        rows = self.kept.find(keys)
        return {key: Answer(text, took, bool(warm), day) for key, (text, took, warm, day) in rows.items()}

    def keep(self, rows: Iterable[tuple[str, Answer]]) -> None:
        """Keep answers under their keys, all or none of them."""
        self.kept.keep(rows)

    def close(self) -> None:
        self.kept.close()
