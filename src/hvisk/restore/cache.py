"""What backends answered before: one SQLite file, so that no text is asked of twice, whatever interrupts the work.

An answer is found again by what the backend is (model, address, prompt), the text and what was said around it. It is kept as
it was given: `words.read` judges it anew each time. That nobody answers at present is not kept.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hvisk.kept import Kept

_COLUMNS = {"answer": "TEXT", "reason": "TEXT NOT NULL", "seconds": "REAL NOT NULL"}


class Answer(NamedTuple):
    """What was answered, None for nothing, and then why; the seconds that it took, its share of a request."""

    text: str | None
    reason: str
    seconds: float


class Cache:
    """Answers of all backends. Several processes may use the file at once, and one thread of each."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. HviskError where it is no database, or lies where nothing can be written."""
        self.kept = Kept(path, _COLUMNS, "answers")

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return what is known of those keys of which anything is."""
        return {key: Answer(*row) for key, row in self.kept.find(keys).items()}

    def keep(self, rows: Iterable[tuple[str, Answer]]) -> None:
        """Keep answers under their keys, all or none of them."""
        self.kept.keep(rows)

    def close(self) -> None:
        self.kept.close()


def key(settings: Mapping[str, Any], text: str, before: str, after: str) -> str:
    """Return what the answer of a backend to a text is kept under."""
    return hashlib.sha256(json.dumps([dict(settings), text, before, after], sort_keys=True).encode()).hexdigest()
