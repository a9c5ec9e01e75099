"""Raw predictions: the one file that every score is computed from, one clip a line of JSON, and how it is written.

Raw means as the corpus and the recogniser wrote them: no scorer has touched these texts, so that each can, later.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvisk import files
from hvisk.errors import HviskError

Meta = dict[str, str | int | float | None]


@dataclass(frozen=True)
class Prediction:
    """One clip's raw texts, with how long it is and how long the recogniser took for it (its share of a batch).

    seconds and compute_seconds are 0 where a file of another project does not tell them. meta: what the corpus knows of
    the clip (age, gender, dialect ...). note: why the hypothesis is empty although the recogniser was asked.
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
    """Read predictions; a last line that a kill cut short is left out, any other broken line is a HviskError."""
    found: list[Prediction] = []
    lines = path.read_bytes().split(b"\n")  # bytes: a kill may cut a letter in half too
    for number, line in enumerate(lines[:-1], start=1):  # a whole line ends in a newline: the rest is empty or torn
        try:
            found.append(Prediction(**json.loads(line.decode())))
        except (ValueError, TypeError) as error:
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


def speed(predictions: Sequence[Prediction]) -> float:
    """Seconds of audio recognised a second, summed over the clips; 0 where nothing was."""
    took = sum(p.compute_seconds for p in predictions)
    return sum(p.seconds for p in predictions) / took if took else 0.0


def _line(prediction: Prediction) -> str:
    return json.dumps(vars(prediction), ensure_ascii=False) + "\n"
