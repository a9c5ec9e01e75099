"""What a training run changed, by its own measurements: scores before and after, and the clips that are heard otherwise now.

The corpora are the validation clips, which chose the checkpoint, and those under watch: their figures are a little flattering.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hvisk import files, metrics
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError
from hvisk.predictions import Prediction
from hvisk.report.listen import Clip, choose_clips
from hvisk.text import normalise

BEFORE, AFTER = "before training", "after training"


@dataclass(frozen=True)
class Change:
    """One corpus, heard by the model that training began with and by what came out. name: "" for the validation clips.

    store: None where the corpus is no longer where it was.
    """

    name: str
    store: Store | None
    before: list[Prediction]
    after: list[Prediction]

    @property
    def scores(self) -> list[tuple[str, metrics.Score]]:
        """The scores before and after, named for a table."""
        what = self.name and f"{self.name}, "
        return [(what + BEFORE, score(self.before)), (what + AFTER, score(self.after))]


def read(run: Path) -> tuple[dict[str, Any], list[Change]]:
    """Return a run's ending.json and its changes, the validation clips first; nothing of a run that has not ended."""
    if not (run / "ending.json").exists():
        return {}, []
    ending = files.read_json(run / "ending.json")
    changes = []
    for corpus in ending["corpora"]:
        try:
            store = Store.open(Path(corpus["path"]))
        except CorpusError:
            store = None
        lengths = dict(zip(store.ids, store.seconds.tolist(), strict=True)) if store else {}
        sides = [
            [
                Prediction(**line, seconds=lengths.get(line["id"], 0.0), compute_seconds=0.0, meta={})
                for line in map(json.loads, (run / corpus[side]).read_text(encoding="utf-8").splitlines())
            ]
            for side in ("before", "after")
        ]
        changes.append(Change(corpus["name"], store, *sides))
    return ending, changes


def score(found: Sequence[Prediction]) -> metrics.Score:
    """Score clips; where one person says them all, the interval is drawn over clips and says so."""
    counts = [metrics.count(p.reference, p.hypothesis) for p in found]
    speakers = [p.speaker for p in found]
    if len(set(speakers)) != 1:
        return metrics.score(counts, speakers)
    alone = "One speaker: the interval is over clips, and tells nothing of other people."
    return replace(metrics.score(counts, [p.id for p in found]), speakers=1, warning=alone)


def clips(change: Change, *, worst: int, others: int) -> list[Clip]:
    """Return clips in which other words are heard than before: those most wrong now, and others at random."""
    before = {p.id: p for p in change.before}
    moved = [p for p in change.after if normalise(p.hypothesis) != normalise(before[p.id].hypothesis)]
    found = {p.id: p for p in moved}
    places = {identifier: i for i, identifier in enumerate(change.store.ids)} if change.store else {}
    counts = [(p.id, metrics.count(p.reference, p.hypothesis)) for p in moved]
    return [
        Clip(
            id=identifier,
            why=why,
            speaker=found[identifier].speaker,
            seconds=found[identifier].seconds,
            reference=found[identifier].reference,
            hypotheses=[(AFTER, found[identifier].hypothesis), (BEFORE, before[identifier].hypothesis)],
            audio=change.store.encoded(places[identifier]) if change.store else b"",
            mime="audio/ogg" if change.store and change.store.manifest["codec"] == "opus" else "audio/flac",
        )
        for identifier, why in choose_clips(counts, worst=worst, others=others)
    ]


def notes(ending: dict[str, Any], changes: Sequence[Change], base: str) -> list[str]:
    """Return what a reader must know of how a run ended."""
    if not ending:
        return []
    told = [
        "Measured while it was trained, on the clips that chose the checkpoint; those to listen to are the ones that changed."
    ]
    if ending["share"] < 1:
        told.append(f"The weights are {100 * ending['share']:g} % of the way from the model before to the trained one.")
    margin = f"forgetting_margin, {ending['forgetting_margin']:g} points"
    for corpus in ending["corpora"][1:]:
        risen = corpus["risen"]
        if risen is not None:
            beyond = f", more than {margin}: no model was published" if risen > ending["forgetting_margin"] else ""
            told.append(f"{corpus['name']}: WER {risen:+.1f} points, at 95 % at most {corpus['at_most']:+.1f}{beyond}.")
    if base and len(changes) == 1:
        told.append(
            "No other people's speech was measured, so that nobody knows what the model has forgotten. Name some: "
            "hvisk train adapt --general CORPUS."
        )
    return told
