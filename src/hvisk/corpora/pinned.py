"""source.json, beside the splits of a corpus: where it comes from and at which commit, so that it is never mixed of two.

source.json -> read -> the commit that the plan is made for, today as on the day when the corpus was begun
manifest.json of each split -> finished -> nothing is asked of anybody any more
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import files
from hvisk.corpora import store
from hvisk.corpora.sources import Source
from hvisk.errors import CorpusError

NAME = "source.json"


@dataclass(frozen=True)
class Pin:
    """What a corpus was begun with. splits: all that its source has, where they were asked for; else empty."""

    branch: str
    commit: str
    splits: tuple[str, ...]


def read(out: Path, source: Source) -> Pin | None:
    """Return what the corpus at `out` was begun with, None where there is none; CorpusError if it is of another source."""
    if not (out / NAME).exists():
        return None
    held = files.read_json(out / NAME)
    if (held["hub"], held["config"]) != (source.hub, source.config):
        raise CorpusError(
            f"{out} holds {held['hub']} {held['config']}, and this is {source.hub} {source.config}. "
            "Choose another --out, or delete it."
        )
    return Pin(held["branch"], held["commit"], tuple(held["splits"]))


def write(out: Path, source: Source, branch: str, commit: str, splits: Sequence[str]) -> None:
    """Keep what the corpus at `out` is begun with. splits: what a call without --split means, empty if it had one."""
    before = read(out, source)
    whole = list(splits) or (list(before.splits) if before else [])
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(
        out / NAME,
        {"hub": source.hub, "config": source.config, "branch": branch, "commit": commit, "splits": whole},
    )


def about(source: Source, commit: str, limit: str) -> dict[str, Any]:
    """Return what a manifest says of where its corpus comes from."""
    return {
        "source": source.name,
        "hub": source.hub,
        "config": source.config,
        "commit": commit,
        "language": source.language,
        "text_style": source.style,
        "columns": [source.audio, source.text, source.speaker],
        "limit": limit,
    }


def finished(out: Path, source: Source, splits: Sequence[str], limit: str, codec: str) -> dict[str, Any] | None:
    """Return the statistics of these splits where all of them are whole and as they are asked for, else None."""
    if not splits or not all((out / split / "manifest.json").exists() for split in splits):
        return None
    stores = {split: store.Store.open(out / split) for split in splits}
    for opened in stores.values():
        said = opened.manifest.get("about", {})
        asked = about(source, str(said.get("commit")), limit)
        if said != asked or (opened.manifest["codec"], opened.manifest["licence"]) != (codec, source.licence):
            return None
    return {split: store.statistics(opened) for split, opened in stores.items()}
