"""The Danish corpora that hvisk knows by name: one small file each in `sources/`, read into a `Source`.

    coral.toml -> Source -> hub.plan -> parts -> store.write

Each file says where the corpus lies, whose it is, what its columns are called, how its text is written, and which of its
splits is ours.
"""

import importlib.resources
import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hvisk.errors import CorpusError

Answer = Literal["yes", "no", "unknown"]

PARQUET_BRANCH = "refs/convert/parquet"  # where the Hub keeps its own Parquet copy of a dataset in any other format

_HUB = re.compile(r"hub:(?P<hub>\w[\w.-]*/\w[\w.-]*)(:(?P<config>[^:]*))?(:(?P<split>[^:]+))?", re.ASCII)


@dataclass(frozen=True)
class Source:
    """A corpus on the Hub, or one that has a mirror there.

    hub, config, revision: where; the revision may be "" for the newest. splits: our name -> the names it may have there.
    audio, text, speaker: columns; "" is the first that has a usual name. meta: further columns to keep, None for all.
    reject: column -> values that leave a clip out. cased, punctuated, verbatim: how its text is written.
    hours: by our split, where they are known. also: older versions, name -> their ids; download: the page where
    the collection itself is given out.
    """

    name: str
    hub: str
    splits: dict[str, tuple[str, ...]]
    about: str = ""
    config: str = ""
    revision: str = ""
    audio: str = ""
    text: str = ""
    speaker: str = ""
    meta: tuple[str, ...] | None = None
    reject: tuple[tuple[str, tuple[str, ...]], ...] = ()
    language: str = "da"
    cased: Answer = "unknown"
    punctuated: Answer = "unknown"
    verbatim: Answer = "unknown"
    licence: str = "unknown"
    gated: bool = False
    hours: tuple[tuple[str, float], ...] = ()
    also: tuple[tuple[str, tuple[str, ...]], ...] = ()
    download: str = ""

    @property
    def style(self) -> str:
        """How the text is written, in a few words, such as "cased, not punctuated, verbatim?": the last is not known."""
        words = {"cased": self.cased, "punctuated": self.punctuated, "verbatim": self.verbatim}
        forms = {"yes": "{}", "no": "not {}", "unknown": "{}?"}
        return ", ".join(forms[value].format(word) for word, value in words.items())


def known() -> list[Source]:
    """Return all sources, by name."""
    folder = Path(str(importlib.resources.files("hvisk"))) / "corpora" / "sources"
    return [_read(path) for path in sorted(folder.glob("*.toml"), key=lambda path: path.stem)]


def find(name: str) -> Source:
    """Return the source that is meant.

    name: a source's, that of an older version ("coral-v1"), the Hub id of either, with a colon and the config where an
    id has several ("CoRal-project/coral-v2:conversation"), or "hub:owner/name", with ":config" and ":split" or
    without, for any other dataset on the Hub. Raises CorpusError, with the nearest names, for anything else.
    """
    if name.startswith("hub:"):
        return _anything(name)
    sources = known()
    for source in sources:
        if name in (source.name, source.hub, f"{source.hub}:{source.config}"):
            return source
        for called, ids in source.also:
            for hub in ids:
                if name in (called, hub, f"{hub}:{source.config}"):
                    return replace(source, name=called, hub=hub, hours=())
    from difflib import get_close_matches

    names = [source.name for source in sources]
    close = get_close_matches(name, [*names, "synthetic", "folder", "list"], n=1)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise CorpusError(
        f"hvisk knows no corpus '{name}'.{meant} Known: {', '.join(names)}. For another dataset on the Hub: "
        "hvisk prepare hub:owner/name:config:split. For files on disk: hvisk prepare folder PATH."
    )


def _anything(name: str) -> Source:
    found = _HUB.fullmatch(name)
    if not found:
        raise CorpusError(
            f"'{name}' names no dataset. Accepted: hub:owner/name, hub:owner/name:config or hub:owner/name:config:split "
            "(the config may be empty)."
        )
    splits = {
        "train": ("train",),
        "validation": ("validation", "val", "dev", "valid"),
        "test": ("test",),
    }
    if given := found["split"]:
        ours = next((split for split, names in splits.items() if given in names), given)
        splits = {ours: (given,)}
    return Source(name=name, hub=found["hub"], config=found["config"] or "", splits=splits)


def _read(path: Path) -> Source:
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    columns, style = table.pop("columns"), table.pop("style")
    table["splits"] = {split: tuple(names) for split, names in table["splits"].items()}
    table["reject"] = tuple((column, tuple(values)) for column, values in table["reject"].items())
    table["hours"] = tuple(table["hours"].items())
    table["also"] = tuple((called, tuple(ids)) for called, ids in table["also"].items())
    columns["meta"] = tuple(columns["meta"])
    return Source(name=path.stem, **table, **columns, **style)
