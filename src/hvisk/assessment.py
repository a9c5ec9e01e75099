"""Everything that follows from raw predictions alone: every scale, groups, behaviour and words, as scores.json has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvisk import __version__, behaviour, files, groups, interchange, scorers, vocabulary
from hvisk.errors import HviskError
from hvisk.predictions import Prediction


def assess(found: Sequence[Prediction], by: Sequence[str] = ()) -> dict[str, Any]:
    """Return scales, groups, behaviour, words and the number of failed clips, in JSON's types.

    by: columns to group by beside those worth a table. HviskError for a column that no clip has, and for an id twice.
    """
    columns = dict.fromkeys([*groups.default_columns(found), *by])
    return {
        "hvisk": __version__,
        "scales": {name: score.to_dict() for name, score in scorers.score_all(found).items()},
        "groups": {
            name: [group.to_dict() for group in table] for name, table in groups.tables(found, list(columns)).items()
        },
        "behaviour": behaviour.measure(found).to_dict(),
        "words": vocabulary.measure(found).to_dict(),
        "failed": sum(bool(prediction.note) for prediction in found),
    }


def update(directory: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Put `changes` into an evaluation's scores.json and return the whole of it."""
    path = directory / "scores.json"
    whole = {**(files.read_json(path) if path.exists() else {}), **changes}
    files.write_json(path, whole)
    return whole


def scores(path: Path) -> dict[str, Any]:
    """Return the scores of a finished evaluation as they stand, or those of a file of predictions, computed now."""
    kept = path / "scores.json"
    if kept.exists():
        return dict(files.read_json(kept))
    return score_again(path)


def score_again(path: Path, by: Sequence[str] = ()) -> dict[str, Any]:
    """Score predictions of any project; an evaluation directory gets its scores.json anew, with speed and suites kept."""
    found = interchange.read(path)
    if not path.is_dir() or not (path / "predictions.jsonl").exists():
        return assess(found, by)
    planned = files.read_json(path / "settings.json")["clips"] if (path / "settings.json").exists() else len(found)
    if len(found) < planned:
        raise HviskError(
            f"{path} has {len(found)} of {planned} clips: its evaluation was interrupted. Go on with it first, with the "
            f"same hvisk evaluate, or score what is there as a file: hvisk score {path}/predictions.jsonl"
        )
    return update(path, assess(found, by))
