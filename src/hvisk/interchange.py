"""Files of predictions of other projects, read into ours and written from ours.

    rye         Danish leaderboard, outputs/<model>/<dataset>.jsonl: id, reference, hypothesis; or one file for all its
                test sets, outputs/<model>.jsonl, with dataset beside them
    open-asr    Open ASR leaderboard manifest, JSONL: audio_filepath, duration, time, text, pred_text
    hvisk       predictions.jsonl, or the directory of an evaluation that holds it

Neither of the foreign forms tells who speaks. Each clip is then its own speaker, named by the clip's id, so that no two
clips are taken to be of one person; `scorers` sees that and says beside the score that its interval is too narrow.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvisk import files, predictions
from hvisk.errors import HviskError
from hvisk.predictions import Prediction

FORMS = ("hvisk", "rye", "open-asr")

_ACCEPTED = (
    "Accepted: predictions.jsonl of hvisk or the directory that holds it; raw outputs of the Danish leaderboard (JSON lines "
    "with id, reference, hypothesis) or a model's directory of them; an Open ASR manifest (JSON lines with text, pred_text)."
)
_OURS = {"speaker", "seconds", "compute_seconds"}
_MANIFEST = {"audio_filepath", "duration", "time", "text", "pred_text"}


def read(path: Path) -> list[Prediction]:
    """Read predictions of any of FORMS, told apart by what the file holds; an empty file holds none.

    Lengths and times that a file does not tell are 0. A directory of the Danish leaderboard is read whole, each clip's
    `meta` naming its dataset. Raises HviskError for anything else, a broken line, and an id that is there twice.
    """
    if not path.exists():
        raise HviskError(f"There is no file or directory {path}. {_ACCEPTED}")
    found = _directory(path) if path.is_dir() else _file(path)
    predictions.once_each((prediction.id for prediction in found), str(path))
    return found


def write(path: Path, found: Sequence[Prediction], form: str) -> None:
    """Write predictions to the file `path` in one of FORMS, atomically.

    "rye" keeps id, texts and a dataset named in meta. "open-asr" keeps all but `note`: speaker and meta become columns of
    their own, meta named like a column of the form is left out; lengths and times of 0 become null.
    """
    if form == "hvisk":
        predictions.write(path, found)
        return
    if form not in FORMS:
        raise HviskError(f"There is no form '{form}' of predictions. Accepted: {', '.join(FORMS)}.")
    rows = (_rye_row(p) if form == "rye" else _manifest_row(p) for p in found)
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def _directory(path: Path) -> list[Prediction]:
    if (path / "predictions.jsonl").is_file():
        return _file(path / "predictions.jsonl")
    outputs = sorted(file for file in path.glob("*.jsonl") if file.is_file())
    if not outputs:
        raise HviskError(f"{path} is a directory without predictions. {_ACCEPTED}")
    found = []
    for file in outputs:
        rows = _rows(file)
        if rows and _form(rows[0]) != "rye":
            raise HviskError(
                f"{file} is no raw output of the Danish leaderboard; give other files one by one. {_ACCEPTED}"
            )
        found += [_rye(file, n, row, {"dataset": file.stem}) for n, row in enumerate(rows, start=1)]
    return found


def _file(path: Path) -> list[Prediction]:
    try:
        with path.open("rb") as file:
            first = file.readline().strip()
        row = json.loads(first) if first else None
    except ValueError:
        row = None
    if isinstance(row, dict) and _form(row) == "hvisk":
        return predictions.load(path)  # which knows how a kill leaves a file of ours
    rows = _rows(path)
    if not rows:
        return []
    form = _form(rows[0])
    if form == "rye":
        return [_rye(path, n, row, {}) for n, row in enumerate(rows, start=1)]
    if form == "open-asr":
        return [_manifest(path, n, row) for n, row in enumerate(rows, start=1)]
    if form == "hvisk":
        return predictions.load(path)
    keys = ", ".join(list(rows[0])[:8]) or "nothing"
    raise HviskError(f"{path} holds no predictions that can be told: its first line has {keys}. {_ACCEPTED}")


def _form(row: dict[str, Any]) -> str | None:
    keys = set(row)
    if {"id", "reference", "hypothesis"} <= keys:
        return "hvisk" if keys & _OURS else "rye"
    return "open-asr" if {"text", "pred_text"} <= keys else None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise HviskError(f"{path} is no text in UTF-8. {_ACCEPTED}") from error
    if _holds_rates(content):
        raise HviskError(
            f"{path} holds error rates of the Danish leaderboard and no texts, so that nothing can be scored again. "
            f"Its texts are in outputs/{path.stem}/. {_ACCEPTED}"
        )
    rows = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise HviskError(f"{path}:{number}: no JSON ({error}). {_ACCEPTED}") from error
        if not isinstance(row, dict):
            raise HviskError(f"{path}:{number}: no JSON object. {_ACCEPTED}")
        rows.append(row)
    return rows


def _holds_rates(content: str) -> bool:
    try:
        whole = json.loads(content)
    except ValueError:
        return False
    return isinstance(whole, dict) and "mean_wer" in whole


def _rye(path: Path, number: int, row: dict[str, Any], meta: predictions.Meta) -> Prediction:
    identifier = str(row.get("id"))
    reference, hypothesis = (_text(path, number, row, key) for key in ("reference", "hypothesis"))
    dataset = {"dataset": row["dataset"]} if isinstance(row.get("dataset"), str) else {}
    return Prediction(identifier, identifier, 0.0, reference, hypothesis, 0.0, {**meta, **dataset})


def _rye_row(prediction: Prediction) -> dict[str, Any]:
    dataset = {"dataset": prediction.meta["dataset"]} if isinstance(prediction.meta.get("dataset"), str) else {}
    return {**dataset, "id": prediction.id, "reference": prediction.reference, "hypothesis": prediction.hypothesis}


def _manifest(path: Path, number: int, row: dict[str, Any]) -> Prediction:
    if "parent_id" in row:
        raise HviskError(
            f"{path}:{number}: a part of the longer recording '{row['parent_id']}', whose reference is that of the whole. "
            "Accepted: manifests with one line a recording."
        )
    identifier = str(row.get("audio_filepath") or f"sample_{number - 1}")  # as the leaderboard names what has no name
    reference, hypothesis = (_text(path, number, row, key) for key in ("text", "pred_text"))
    own = {key: value for key, value in row.items() if key not in _MANIFEST | {"speaker"}}
    return Prediction(
        id=identifier,
        speaker=str(row.get("speaker") or identifier),
        seconds=_seconds(path, number, row, "duration"),
        reference=reference,
        hypothesis=hypothesis,
        compute_seconds=_seconds(path, number, row, "time"),
        meta={
            key: _known(value) for key, value in own.items() if value is None or isinstance(value, str | int | float)
        },
    )


def _manifest_row(prediction: Prediction) -> dict[str, Any]:
    meta = {k: _known(v) for k, v in prediction.meta.items() if k not in _MANIFEST | {"speaker", "parent_id"}}
    return {
        "audio_filepath": prediction.id,
        "duration": _known(prediction.seconds) or None,
        "time": _known(prediction.compute_seconds) or None,
        "text": prediction.reference,
        "pred_text": prediction.hypothesis,
        "speaker": prediction.speaker,
        **meta,
    }


def _text(path: Path, number: int, row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""  # as the leaderboards take it: nothing was said, or nothing recognised
    if not isinstance(value, str):
        raise HviskError(f"{path}:{number}: {key} is {value!r}. Accepted: a text, or null for none.")
    return value


def _seconds(path: Path, number: int, row: dict[str, Any], key: str) -> float:
    value = row.get(key)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise HviskError(
            f"{path}:{number}: {key} is {value!r}. Accepted: seconds as a number, or null where not known."
        )
    return float(value) if math.isfinite(value) else 0.0


def _known(value: str | int | float | None) -> str | int | float | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
