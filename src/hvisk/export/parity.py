"""The proof that an exported model says what its checkpoint says: the same clips through both, token by token."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from hvisk import intervals, metrics
from hvisk.errors import ModelError
from hvisk.files import write_json

Decode = Callable[[Sequence[NDArray[np.float32]]], list[list[int]]]
Text = Callable[[Sequence[int]], str]

TOLERANCE = 0.99  # share of clips whose tokens must be the checkpoint's
# Fraction of the words: half a point. Few clips that differ can differ by much, where one of them goes in circles.
WER_TOLERANCE = 0.005


@dataclass(frozen=True)
class HeldOut:
    """Clips to prove an export on, which the model has not learnt from: float32 mono 16 kHz, with their names.

    texts: what is said in each, none at all where that is not known. speakers: of each; none at all is one speaker.
    """

    clips: Sequence[NDArray[np.float32]]
    ids: Sequence[str]
    texts: Sequence[str] = ()
    speakers: Sequence[str] = ()


@dataclass(frozen=True)
class Difference:
    """One clip whose tokens differ: `distance` is how many must be inserted, deleted or replaced."""

    id: str
    distance: int
    reference: list[int]
    exported: list[int]
    reference_text: str
    exported_text: str


@dataclass(frozen=True)
class WordErrors:
    """What the differences cost in words: rates as fractions (0.05 is 5 %), None where nobody says a word.

    against: "texts" are the clips' own; "checkpoint" is the checkpoint's text, where they have none: its rate is then 0,
    and the export's is how many words come out otherwise. difference: the export's rate minus the checkpoint's.
    interval: its 95 % interval, both drawn over the same speakers; None with fewer than two.
    """

    against: Literal["texts", "checkpoint"]
    checkpoint: float | None
    exported: float | None
    difference: float | None
    interval: tuple[float, float] | None
    speakers: int
    warning: str | None

    def __str__(self) -> str:
        if self.difference is None:
            return "no word is said in them, and there is no WER"
        whose = f" {self.checkpoint:.1%}" if self.against == "texts" else " own text, as the clips come without one"
        bounds = f" [{100 * self.interval[0]:+.2f}, {100 * self.interval[1]:+.2f}]" if self.interval else ""
        warning = f" ({self.warning.rstrip('.')})" if self.warning else ""
        return f"WER {self.exported:.1%} against the checkpoint's{whose}: {100 * self.difference:+.2f} points{bounds}{warning}"


@dataclass(frozen=True)
class Parity:
    """How many clips were compared and came out equal; those that did not, the worst first; and what that costs in words."""

    clips: int
    equal: int
    one_token_apart: list[Difference]
    worse: list[Difference]
    wer: WordErrors

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
        if differences:
            worst = differences[0]
            length = max(len(worst.reference), len(worst.exported))
            counts += f"; the worst is '{worst.id}', {worst.distance} of {length} tokens apart"
        return f"{counts}; {self.wer}"


def compare(reference: Decode, exported: Decode, on: HeldOut, text: Text) -> Parity:
    """Decode the clips with both and compare the tokens of each clip, and the words that they make.

    text: what tokens spell. Raises ModelError without clips, ValueError where the numbers of clips, names and results
    differ.
    """
    if not on.clips:
        raise ModelError("An export is proven on clips, and none were given. Give a corpus that holds some.")
    expected, found = ([list(ids) for ids in decode(on.clips)] for decode in (reference, exported))
    differences = [
        Difference(name, Levenshtein.distance(left, right), left, right, text(left), text(right))
        for name, left, right, _ in zip(on.ids, expected, found, on.clips, strict=True)
        if left != right
    ]
    differences.sort(key=lambda difference: -difference.distance)
    return Parity(
        clips=len(on.clips),
        equal=len(on.clips) - len(differences),
        one_token_apart=[difference for difference in differences if difference.distance == 1],
        worse=[difference for difference in differences if difference.distance > 1],
        wer=_word_errors([text(ids) for ids in expected], [text(ids) for ids in found], on),
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
    """Write `directory`/parity.json, and raise ModelError where the export is worse than allowed, unless `force`.

    tolerance: the least share of equal clips; whatever it is, WER may rise by WER_TOLERANCE at most. out: where the export
    will be, for the message. about: how it is stored. closer: the option of an export that is nearer to the checkpoint,
    and what it costs, in words.
    """
    costly = (parity.wer.difference or 0.0) > WER_TOLERANCE
    refused = parity.share_equal < tolerance or costly
    limits = {"tolerance": tolerance, "wer_tolerance": WER_TOLERANCE, "forced": force and refused}
    write_json(directory / "parity.json", {**about, **limits, **parity.to_dict()})
    if refused and not force:
        ways_out = ", ".join(filter(None, (closer, "--force writes it anyhow")))
        wanted = f"{tolerance:.1%} is wanted, and at most {100 * WER_TOLERANCE:+.1f} points of WER"
        raise ModelError(f"{out} was not written: {parity} ({wanted}). {ways_out}.")


def _word_errors(checkpoint: Sequence[str], exported: Sequence[str], on: HeldOut) -> WordErrors:
    said = on.texts if any(metrics.count(text, "").words for text in on.texts) else checkpoint
    counts = [[metrics.count(r, text) for r, text in zip(said, texts, strict=True)] for texts in (exported, checkpoint)]
    errors, words = [[count.errors for count in each] for each in counts], [count.words for count in counts[0]]
    paired = intervals.paired(errors[0], errors[1], words, on.speakers or [""] * len(words))
    total = sum(words)
    return WordErrors(
        against="texts" if said is on.texts else "checkpoint",
        checkpoint=sum(errors[1]) / total if total else None,
        exported=sum(errors[0]) / total if total else None,
        difference=paired.difference,
        interval=paired.interval,
        speakers=paired.speakers,
        warning=paired.warning,
    )
