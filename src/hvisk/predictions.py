"""Raw predictions: the one file that every score is computed from, one clip a line of JSON, and how it is written.

Raw means as the corpus and the recogniser wrote them: no scorer has touched these texts, so that each can, later.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import files
from hvisk.errors import HviskError

Meta = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Prediction:
    """One clip's raw texts, with how long it is and how long the recogniser took for it (its share of a batch).

    seconds and compute_seconds are 0 where a file of another project does not tell them. meta: what the corpus knows of
    the clip (age, gender, dialect ...), maybe nothing. note: why the hypothesis is empty although the recogniser was asked.
    """

    id: str
    speaker: str
    seconds: float
    reference: str
    hypothesis: str
    compute_seconds: float
    meta: Meta
    note: str = ""


def load(path: Path) -> list[Prediction]:
    """Read predictions; a last line that a kill cut short is left out, any other broken line is a HviskError.

    A duration that is no number (NaN) is one that nobody knows, 0; metadata that are no number, or null, are missing.
    """
    found: list[Prediction] = []
    lines = path.read_bytes().split(b"\n")  # bytes: a kill may cut a letter in half too
    for number, line in enumerate(lines[:-1], start=1):  # a whole line ends in a newline: the rest is empty or torn
        try:
            found.append(_prediction(json.loads(line.decode())))
        except (ValueError, TypeError, AttributeError) as error:
            raise HviskError(
                f"{path}:{number}: not a prediction ({error}). Accepted: JSON objects with id, speaker, seconds, "
                "reference, hypothesis, compute_seconds, meta and note."
            ) from error
    return found


def write(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write the whole file at once, atomically."""
    files.write_text(path, "".join(map(_line, predictions)))


def append(path: Path, predictions: Iterable[Prediction]) -> None:
    """Add lines to the file and bring them to the disk; a torn last line, left by a kill, is cut off first."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        keep = size
        while keep:  # backwards, byte by byte: nearly always the first one is the newline that is looked for
            file.seek(keep - 1)
            if file.read(1) == b"\n":
                break
            keep -= 1
        file.truncate(keep)
        file.write("".join(map(_line, predictions)).encode())
        file.flush()
        os.fsync(file.fileno())


def once_each(ids: Iterable[str], where: str) -> None:
    """Raise HviskError where an id is there twice: a clip is found by its id, and which one is meant cannot be known.

    where: completes "... has the clip 'x' twice": a file, a corpus.
    """
    times = Counter(ids)
    twice = [identifier for identifier, number in times.items() if number > 1]
    if twice:
        raise HviskError(
            f"{where} has the clip '{twice[0]}' {times[twice[0]]} times ({len(twice)} such ids): which one is meant cannot be "
            "known. Accepted: an id of its own for each clip; files of several test sets are scored one by one, and a "
            "corpus is prepared again."
        )


def speed(predictions: Sequence[Prediction]) -> float:
    """Seconds of audio recognised a second, summed over the clips that were; 0 where none was."""
    timed = [p for p in predictions if not p.note and p.compute_seconds]
    took = sum(p.compute_seconds for p in timed)
    return sum(p.seconds for p in timed) / took if took else 0.0


def _prediction(value: dict[str, Any]) -> Prediction:
    """Return what a line says; TypeError where a value is of another type, so that none can fail later, elsewhere."""
    texts = ("id", "speaker", "reference", "hypothesis", "note")
    for key in value.keys() & set(texts):
        if not isinstance(value[key], str):
            raise TypeError(f"{key} is no text: {value[key]!r}")
    for key in value.keys() & {"seconds", "compute_seconds"}:
        if isinstance(value[key], bool) or not isinstance(value[key], int | float):
            raise TypeError(f"{key} is no number: {value[key]!r}")
        value[key] = value[key] if math.isfinite(value[key]) else 0.0
    meta = {} if value.get("meta") is None else value["meta"]
    if not isinstance(meta, dict):
        raise TypeError(f"meta is no object: {meta!r}")
    value["meta"] = {key: _finite(known) for key, known in meta.items()}
    return Prediction(**value)


def _line(prediction: Prediction) -> str:
    value = {
        **vars(prediction),
        "seconds": _finite(prediction.seconds) or 0.0,
        "compute_seconds": _finite(prediction.compute_seconds) or 0.0,
        "meta": {key: _finite(known) for key, known in prediction.meta.items()},
    }
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Return the value, None for NaN and infinity, which JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
