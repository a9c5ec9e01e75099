"""Answers that cost something, kept so that nothing is asked for twice: one SQLite file, a row of them under each key."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvisk.errors import HviskError

_AT_ONCE = 500  # keys in a query; SQLite's own limit is 999 in old versions


class Kept:
    """Rows under keys. Several processes may use the file at once, and one thread of each."""

    def __init__(self, path: Path, columns: Mapping[str, str], what: str) -> None:
        """Open or make the file. columns: the names of a row's values and their SQL types. what: it is in messages.

        HviskError where it is no database, or lies where nothing can be written.
        """
        self.names = list(columns)
        declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.database = sqlite3.connect(path, timeout=30.0)
            self.database.execute(f"CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, {declared})")
        except (OSError, sqlite3.Error) as error:
            raise HviskError(
                f"The cache of {what}, {path}, cannot be used: {error}. Delete it, or set HVISK_CACHE to a directory that "
                "may be written."
            ) from error

    def find(self, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Return the rows of those keys of which anything is known."""
        found: dict[str, tuple[Any, ...]] = {}
        for at in range(0, len(keys), _AT_ONCE):
            some = keys[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, {', '.join(self.names)} FROM answers WHERE key IN ({marks})"
            found.update({row[0]: row[1:] for row in self.database.execute(query, some)})
        return found

    def keep(self, rows: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Keep rows under their keys, all or none of them."""
        marks = ", ".join("?" * (1 + len(self.names)))
        with self.database:
            self.database.executemany(
                f"INSERT OR REPLACE INTO answers VALUES ({marks})", ((key, *row) for key, row in rows)
            )

    def close(self) -> None:
        self.database.close()
