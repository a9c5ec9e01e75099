"""A corpus with other texts: the same clips byte for byte, each with its new text and, in a column of its own, the one it had.

begin(out, source, asked)       before any text is made: what `out` is to become
write(out, source, texts)       shard by shard; run again after any interruption, it goes on
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from hvisk import files
from hvisk.corpora import shard, store
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError


def begin(out: Path, source: Store, asked: str) -> bool:
    """Keep in `out` that `source` is to be written there with other texts, and return whether that is done already.

    asked: all that decides the texts. CorpusError where `out` holds anything else.
    """
    plan = {
        "format": store.FORMAT,
        "name": source.manifest["name"],
        "codec": source.manifest["codec"],
        "parts": len(source.manifest["shards"]),
        "hash": _hash([source.fingerprint, asked]),
    }
    if (out / "plan.json").exists() and files.read_json(out / "plan.json") != plan:
        raise CorpusError(
            f"{out} holds another corpus, or one begun with other settings or of another source. "
            "Choose another --out, or delete it."
        )
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "plan.json", plan)
    return (out / "manifest.json").exists()


def write(
    out: Path,
    source: Store,
    texts: Mapping[int, tuple[str, str]],
    *,
    about: dict[str, Any],
) -> Store:
    """Write what was begun and return the new store.

    texts: of each clip that is taken, by its index, its text and who made it: "endpoint", "tagger", "rules",
    "source" for one that was finished, or "" for one that is as it was. about: what the
    manifest says besides what the source's does. A shard that was written
    before with these texts is kept.
    """
    for left_behind in out.glob(".*.partial*"):  # by a killed process
        left_behind.unlink()
    entries = source.manifest["shards"]
    records: list[dict[str, Any]] = []
    start = 0
    for index, entry in enumerate(entries):
        places = [place for place in range(entry["rows"]) if start + place in texts]
        rows = source.table.slice(start, entry["rows"]).take(pa.array(places, pa.int64()))
        new = [texts[start + place] for place in places]
        start += entry["rows"]
        stamp = _hash([*rows["id"].to_pylist(), *map(str, new)])
        records.append(_kept(out, index, stamp) or shard.retext(out, index, rows, new, entry, stamp))
    kept = {key: source.manifest[key] for key in ("name", "licence", "codec")}
    return store.finish(out, records, about={**source.manifest.get("about", {}), **about}, **kept)


def _kept(out: Path, index: int, stamp: str) -> dict[str, Any] | None:
    """The record of a shard that is there already with the same clips and texts, None where there is no such shard."""
    path = out / f"{index:05d}.json"
    if not path.exists() or not (out / f"{index:05d}.arrow").exists():
        return None
    record = dict(files.read_json(path))
    return record if record.get("texts") == stamp else None


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()
