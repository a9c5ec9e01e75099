"""The proof that an exported model says what its checkpoint says: the same clips through both, token by token."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from hvisk.errors import ModelError
from hvisk.files import write_json

Decode = Callable[[Sequence[NDArray[np.float32]]], list[list[int]]]


@dataclass(frozen=True)
class Difference:
    """One clip whose tokens differ: `distance` is how many must be inserted, deleted or replaced."""

    id: str
    distance: int
    reference: list[int]
    exported: list[int]


@dataclass(frozen=True)
class Parity:
    """How many clips were compared and came out equal; those that did not, the worst first."""

    clips: int
    equal: int
    one_token_apart: list[Difference]
    worse: list[Difference]

    @property
    def share_equal(self) -> float:
        """The share of clips with exactly the same tokens, 0 to 1."""
        return self.equal / self.clips

    def to_dict(self) -> dict[str, Any]:
        """Return all of it for JSON, the share included."""
        return {"share_equal": self.share_equal, **asdict(self)}

    def __str__(self) -> str:
        counts = f"{self.equal} of {self.clips} clips ({self.share_equal:.1%}) give the checkpoint's tokens, "
        counts += f"{len(self.one_token_apart)} are one token apart, {len(self.worse)} differ by more"
        differences = [*self.worse, *self.one_token_apart]
        if not differences:
            return counts
        worst = differences[0]
        length = max(len(worst.reference), len(worst.exported))
        return f"{counts}; the worst is '{worst.id}', {worst.distance} of {length} tokens apart"


def compare(reference: Decode, exported: Decode, clips: Sequence[NDArray[np.float32]], ids: Sequence[str]) -> Parity:
    """Decode the clips (float32, mono, 16 kHz) with both and compare the token ids of each clip.

    ids: the clips' names, one each. Raises ModelError without clips, ValueError where the numbers of clips, names and
    results differ.
    """
    if not clips:
        raise ModelError("An export is proven on clips, and none were given. Give a corpus that holds some.")
    expected, found = reference(clips), exported(clips)
    differences = [
        Difference(name, Levenshtein.distance(left, right), list(left), list(right))
        for name, left, right, _ in zip(ids, expected, found, clips, strict=True)
        if list(left) != list(right)
    ]
    differences.sort(key=lambda difference: -difference.distance)
    return Parity(
        clips=len(clips),
        equal=len(clips) - len(differences),
        one_token_apart=[difference for difference in differences if difference.distance == 1],
        worse=[difference for difference in differences if difference.distance > 1],
    )


def judge(
    parity: Parity,
    directory: Path,
    out: Path,
    about: dict[str, str],
    *,
    tolerance: float,
    force: bool,
    closer: str = "",
) -> None:
    """Write `directory`/parity.json, and raise ModelError where too few clips are equal, unless `force`.

    out: where the export will be, for the message. about: how it is stored. closer: the option of an export that is nearer
    to the checkpoint, and what it costs, in words.
    """
    short = parity.share_equal < tolerance
    record = {**about, "tolerance": tolerance, "forced": force and short, **parity.to_dict()}
    write_json(directory / "parity.json", record)
    if short and not force:
        ways_out = ", ".join(filter(None, (closer, "--force writes it anyhow")))
        raise ModelError(f"{out} was not written: {parity} ({tolerance:.1%} is wanted). {ways_out}.")
