"""What backends answered before: one SQLite file, so that no text is asked of twice, whatever interrupts the work.

An answer is found again by what the backend is (model, address, prompt), the text and what was said around it. It is kept as
it was given: `words.read` judges it anew each time. That nobody answers at present is not kept.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hvisk.errors import HviskError

_TABLE = "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT, reason TEXT NOT NULL, seconds REAL NOT NULL)"
_AT_ONCE = 500  # keys in a query; SQLite's own limit is 999 in old versions


class Answer(NamedTuple):
    """What was answered, None for nothing, and then why; the seconds that it took, its share of a request."""

    text: str | None
    reason: str
    seconds: float


class Cache:
    """Answers of all backends. Several processes may use the file at once, and one thread of each."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. HviskError where it is no database, or lies where nothing can be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.database = sqlite3.connect(path, timeout=30.0)
            self.database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise HviskError(
                f"The cache of answers, {path}, cannot be used: {error}. Delete it, or set HVISK_CACHE to a directory that "
                "may be written."
            ) from error

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """Return what is known of those keys of which anything is."""
        found: dict[str, Answer] = {}
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self.database.execute(
                f"SELECT key, answer, reason, seconds FROM answers WHERE key IN ({marks})", some
            )
            found.update({row[0]: Answer(*row[1:]) for row in rows})
        return found

    def keep(self, rows: Iterable[tuple[str, Answer]]) -> None:
        """Keep answers under their keys, all or none of them."""
        with self.database:
            self.database.executemany(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", ((key, *answer) for key, answer in rows)
            )

    def close(self) -> None:
        self.database.close()


def key(settings: Mapping[str, Any], text: str, before: str, after: str) -> str:
    """Return what the answer of a backend to a text is kept under."""
    return hashlib.sha256(json.dumps([dict(settings), text, before, after], sort_keys=True).encode()).hexdigest()
