"""A corpus with bare texts becomes one with restored texts: its sounds as they are, the bare texts in a column of their own.

corpora/coral/train -> lines in the order in which they were said -> work.restore -> corpora/coral-cased/train
  restored.json      who restored how many, with which model and prompt; a sample of texts, and of answers that were not taken
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvisk import __version__, files
from hvisk.corpora import retext
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError
from hvisk.restore import words, work
from hvisk.restore.backend import Backend
from hvisk.restore.cache import Cache
from hvisk.restore.work import Line, Outcome

NAME = "restored.json"
SAMPLE = 20  # texts to look at, and as many answers that were not taken

_CONVERSATION, _SEGMENT = "id_conversation", "id_segment"  # CoRal's names for who talks with whom, and when
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Task:
    """A store and what is to be asked of it. chosen: indices of its clips, in the order of `lines`."""

    source: Store
    chosen: tuple[int, ...]
    lines: tuple[Line, ...]


def corpora(path: Path) -> dict[str, Store]:
    """Return the corpus at `path`, under the name "", or those in the folders of a prepared source, by split."""
    if path.is_dir() and not (path / "manifest.json").exists():
        splits = sorted(found.parent.name for found in path.glob("*/manifest.json"))
        if splits:
            return {split: Store.open(path / split) for split in splits}
    return {"": Store.open(path)}


def task(source: Store, limit: int = 0) -> Task:
    """Return the lines of a corpus, each with its neighbours; of the first `limit` alone, 0 for all.

    Clips stand in a shard in no order. Neighbours are those that follow one another by number in one conversation, where
    the metadata tell it, or by id among the clips of one speaker. Raises CorpusError for a corpus that was restored before.
    """
    if source.restored:
        raise CorpusError(f"{source.path} holds restored texts already. Restore the corpus that it was made of.")
    metas = [json.loads(meta) for meta in source.table["meta"].to_pylist()]
    conversations = [meta.get(_CONVERSATION) for meta in metas]
    groups = [
        f"speaker {speaker}" if conversation is None else f"conversation {conversation}"
        for conversation, speaker in zip(conversations, source.speakers, strict=True)
    ]
    numbers = [_natural(str(meta.get(_SEGMENT, ""))) for meta in metas]
    order = sorted(range(len(source)), key=lambda i: (groups[i], numbers[i], _natural(source.ids[i])))

    def text(place: int, group: str) -> str:
        there = 0 <= place < len(order) and groups[order[place]] == group
        return source.texts[order[place]] if there else ""

    lines = [
        Line(source.texts[i], text(place - 1, groups[i]), text(place + 1, groups[i]), groups[i])
        for place, i in enumerate(order)
    ]
    count = limit or len(order)
    return Task(source, tuple(order[:count]), tuple(lines[:count]))


def restore(
    given: Task,
    out: Path,
    backends: Sequence[Backend],
    cache: Cache,
    on_progress: Callable[[work.State], None] | None = None,
) -> dict[str, Any]:
    """Write the corpus with restored texts to `out` and return what restored.json says; one that is done is not made again.

    Raises CorpusError where `out` holds another one, or one of other settings, before anybody is asked; Unavailable where a
    backend answers nobody: what was answered is in the cache, and the same call goes on.
    """
    settings = [backend.settings for backend in backends]
    asked = json.dumps([settings, len(given.lines)], sort_keys=True)
    if out.resolve() == given.source.path.resolve():
        raise CorpusError(f"{out} is the corpus itself. Choose another --out: the bare one is kept.")
    if retext.begin(out, given.source, asked) and (out / NAME).exists():
        return dict(files.read_json(out / NAME))
    outcomes = work.restore(given.lines, backends, cache, on_progress)
    for line, outcome in zip(given.lines, outcomes, strict=True):
        # Asked once more, of what is written: whatever went wrong on the way, no word of a corpus changes.
        if outcome.by not in ("", "source") and not words.unchanged(line.text, outcome.text):
            raise CorpusError(
                f"'{line.text}' would become '{outcome.text}'. This is an error of hvisk's; nothing was written."
            )
    report = record(given, outcomes, backends)
    files.write_json(out / NAME, report)
    summary = {key: report[key] for key in ("hvisk", "source", "settings", "by", "fallback_share", "plain_share")}
    about = {"text_style": _style(given.source, report["plain_share"]), "restored": summary}
    texts = {i: (outcome.text, outcome.by) for i, outcome in zip(given.chosen, outcomes, strict=True)}
    retext.write(out, given.source, texts, about=about)
    return report


def record(given: Task, outcomes: Sequence[Outcome], backends: Sequence[Backend]) -> dict[str, Any]:
    """Return what restored.json says.

    fallback_share: of the texts that were asked for, those that the first backend did not restore; plain_share: of all
    texts, those that nobody did. rejected: answers that were not taken, by backend.
    """
    by = Counter(outcome.by for outcome in outcomes)
    rejected = Counter(kind for outcome in outcomes for kind, _, _ in outcome.rejected)
    repaired = Counter(outcome.by for outcome in outcomes if outcome.how == "repaired")
    open_texts = len(outcomes) - by["source"]
    first = backends[0].kind if backends else ""
    return {
        "hvisk": __version__,
        "source": {"name": given.source.manifest["name"], "fingerprint": given.source.fingerprint},
        "settings": [backend.settings for backend in backends],
        "about": [backend.about for backend in backends],
        "clips": len(outcomes),
        "words": sum(len(line.text.split()) for line in given.lines),
        "by": {name or "nobody": count for name, count in sorted(by.items())},
        "repaired": dict(sorted(repaired.items())),
        "rejected": dict(sorted(rejected.items())),
        "fallback_share": (open_texts - by[first]) / open_texts if open_texts else 0.0,
        "plain_share": by[""] / len(outcomes) if outcomes else 0.0,
        "sample": _sample(given, outcomes),
        "rejected_sample": _refusals(given, outcomes),
    }


def _sample(given: Task, outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    asked = [i for i, outcome in enumerate(outcomes) if outcome.by != "source"]
    chosen = sorted(np.random.default_rng(0).permutation(asked)[:SAMPLE].tolist()) if asked else []
    return [
        {
            "id": given.source.ids[given.chosen[i]],
            "before": given.lines[i].text,
            "after": outcomes[i].text,
            "by": outcomes[i].by or "nobody",
            "how": outcomes[i].how,
        }
        for i in chosen
    ]


def _refusals(given: Task, outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    refused = [i for i, outcome in enumerate(outcomes) if outcome.rejected]
    chosen = sorted(np.random.default_rng(0).permutation(refused)[:SAMPLE].tolist()) if refused else []
    return [
        {"id": given.source.ids[given.chosen[i]], "text": given.lines[i].text, "by": kind, "answer": answer, "why": why}
        for i in chosen
        for kind, answer, why in outcomes[i].rejected[:1]
    ]


def _style(source: Store, plain: float) -> str:
    """The words in which a manifest tells how texts are written; whether they are verbatim is as it was."""
    verbatim = next((part for part in source.text_style.split(", ") if "verbatim" in part), "verbatim?")
    if plain == 1:
        return source.text_style or "cased?, punctuated?"
    return ", ".join([*(("cased", "punctuated") if plain == 0 else ("cased?", "punctuated?")), verbatim])


def _natural(identifier: str) -> list[tuple[int, str]]:
    """A key that puts "clip 9" before "clip 10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBER.split(identifier)]


def shares(report: Mapping[str, Any]) -> str:
    """Return who restored how much, in words."""
    total = report["clips"]
    names = {"source": "had them already", "nobody": "left as they were"}
    parts = [f"{count:,} {names.get(name, f'by {name}')}" for name, count in report["by"].items()]
    return f"{total:,} texts: {', '.join(parts)}"
