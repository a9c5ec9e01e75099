"""Everything that follows from raw predictions alone: every scale, groups, behaviour and words, as scores.json has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import __version__, behaviour, files, groups, interchange, scorers, vocabulary
from hvisk.errors import HviskError
from hvisk.predictions import Prediction
from hvisk.scorers import Fillers
from hvisk.seen import Seen


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored, kept in scores.json so that no two figures are taken for the same.

    by: columns to group by beside those worth a table. fillers: whether sounds of hesitation count, wherever words are
    our normaliser's. test_set: the published test set that the corpus is, "" for none. seen: the words that the model
    was trained on, None where they are not known.
    """

    by: tuple[str, ...] = ()
    fillers: Fillers = "keep"
    test_set: str = ""
    seen: Seen | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "fillers": self.fillers,
            "by": list(self.by),
            "test_set": self.test_set,
            "seen": self.seen.to_dict() if self.seen else None,
        }


def assess(found: Sequence[Prediction], scoring: Scoring = Scoring()) -> dict[str, Any]:
    """Return scales, groups, behaviour, words and the number of failed clips, in JSON's types.

    HviskError for a column that no clip has, and for an id twice. No clips have no rates, no groups and no words.
    """
    columns = dict.fromkeys([*groups.default_columns(found), *scoring.by])
    normalise, _ = scorers.normaliser(scoring.fillers)
    tables = groups.tables(found, list(columns), normalise=normalise)
    words = vocabulary.measure(found, seen=scoring.seen.words if scoring.seen else None, normalise=normalise)
    return {
        "hvisk": __version__,
        "scoring": scoring.to_dict(),
        "scales": {name: score.to_dict() for name, score in scorers.score_all(found, fillers=scoring.fillers).items()},
        "groups": {name: [group.to_dict() for group in table] for name, table in tables.items()},
        "behaviour": behaviour.measure(found, normalise).to_dict(),
        "words": words.to_dict(),
        "failed": sum(bool(prediction.note) for prediction in found),
    }


def update(directory: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Put `changes` into an evaluation's scores.json and return the whole of it."""
    path = directory / "scores.json"
    whole = {**(files.read_json(path) if path.exists() else {}), **changes}
    files.write_json(path, whole)
    return whole


def scores(path: Path, scoring: Scoring = Scoring()) -> dict[str, Any]:
    """Return the scores of a finished evaluation as they stand, or those of a file of predictions, computed now."""
    kept = path / "scores.json"
    if kept.exists():
        return dict(files.read_json(kept))
    return score_again(path, scoring)


def score_again(path: Path, scoring: Scoring = Scoring()) -> dict[str, Any]:
    """Score predictions of any project; an evaluation directory gets its scores.json anew, with speed and suites kept."""
    found = interchange.read(path)
    if not path.is_dir() or not (path / "predictions.jsonl").exists():
        return assess(found, scoring)
    planned = files.read_json(path / "settings.json")["clips"] if (path / "settings.json").exists() else len(found)
    if len(found) < planned:
        raise HviskError(
            f"{path} has {len(found)} of {planned} clips: its evaluation was interrupted. Go on with it first, with the "
            f"same hvisk evaluate, or score what is there as a file: hvisk score {path}/predictions.jsonl"
        )
    return update(path, assess(found, scoring))


def fillers_of(scores: dict[str, Any]) -> Fillers:
    """Return whether sounds of hesitation counted in a scores.json; in those that do not say it, they did."""
    return "drop" if scores.get("scoring", {}).get("fillers") == "drop" else "keep"


def kept_scoring(path: Path) -> dict[str, Any]:
    """Return how an evaluation was scored, as its scores.json says; nothing for one that was not, and for a file."""
    kept = path / "scores.json"
    return dict(files.read_json(kept).get("scoring", {})) if kept.exists() else {}
