"""What systems said to clips before: one SQLite file, so that the same model never hears the same clip twice.

A text is found again by the system's settings without its name, its software with versions, and the clip's samples.
Corpora that share clips therefore share texts, whatever the clips are called there. A system whose weights cannot be
known, such as a remote one, is not remembered, nor one that draws lots, nor a clip on which a system failed. With each
text are kept the seconds that it took, on which day and machine: an evaluation out of the cache still knows its speed.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hvisk.errors import HviskError

_TABLE = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL, seconds REAL NOT NULL, "
    "warm INTEGER NOT NULL, measured TEXT NOT NULL)"
)
_IDENTITIES = ("model_sha256", "revision")
_AT_ONCE = 500  # keys in a query; SQLite's own limit is 999 in old versions


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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.database = sqlite3.connect(path, timeout=30.0)
            self.database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise HviskError(
                f"The cache of recognised clips, {path}, cannot be used: {error}. Delete it, or set HVISK_CACHE to a "
                "directory that may be written."
            ) from error

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
        found: dict[str, Answer] = {}
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self.database.execute(
                f"SELECT key, text, seconds, warm, measured FROM answers WHERE key IN ({marks})", some
            )
            found.update({key: Answer(text, took, bool(warm), day) for key, text, took, warm, day in rows})
        return found

    def keep(self, rows: Iterable[tuple[str, Answer]]) -> None:
        """Keep answers under their keys, all or none of them."""
        with self.database:
            self.database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", ((key, *answer) for key, answer in rows)
            )

    def close(self) -> None:
        self.database.close()
