"""From pairs of reference and hypothesis to error rates with intervals.

    counts = [count(reference, hypothesis) for ...]      edit operations of each utterance
    score(counts, speakers)                              corpus rates, bootstrap interval over speakers

WER here is the standard corpus word error rate, (S + D + I) / (S + D + H): insertions are in the numerator alone, so it
can exceed 100 %. CER is the same over characters, with the single spaces between words counted as characters.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from hvisk import text

FEW_SPEAKERS = 10  # below this a speaker bootstrap has too few blocks to resample for its interval to be believed
DRAWS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Edit:
    """One step of a word alignment; `reference` is empty for an insertion, `hypothesis` for a deletion."""

    kind: Literal["equal", "substitute", "delete", "insert"]
    reference: str
    hypothesis: str


@dataclass(frozen=True)
class Counts:
    """Edit counts of one utterance: words (hits, substitutions, deletions, insertions) and characters."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int
    character_errors: int
    characters: int  # of the reference, spaces between words included

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def words(self) -> int:
        """Words of the reference."""
        return self.hits + self.substitutions + self.deletions


@dataclass(frozen=True)
class Score:
    """Rates of a corpus as fractions (0.05 is 5 %), None where the references hold no words at all.

    `wer_interval` and `cer_interval` are percentile bootstrap intervals at 95 %, drawn over speakers; None with fewer
    than two speakers, where no resampling can tell anything.
    """

    wer: float | None
    cer: float | None
    wer_interval: tuple[float, float] | None
    cer_interval: tuple[float, float] | None
    clips: int
    speakers: int
    words: int
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    normaliser: str
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def align(reference: str, hypothesis: str) -> list[Edit]:
    """Return the word alignment of two raw texts, both normalised first, as edits from left to right."""
    a, b = text.words(reference), text.words(hypothesis)
    edits: list[Edit] = []
    for block in Levenshtein.opcodes(a, b):
        left, right = a[block.src_start : block.src_end], b[block.dest_start : block.dest_end]
        if block.tag == "equal":
            edits += [Edit("equal", x, y) for x, y in zip(left, right, strict=True)]
        elif block.tag == "replace":
            edits += [Edit("substitute", x, y) for x, y in zip(left, right, strict=True)]
        elif block.tag == "delete":
            edits += [Edit("delete", x, "") for x in left]
        else:
            edits += [Edit("insert", "", y) for y in right]
    return edits


def count(reference: str, hypothesis: str) -> Counts:
    """Count the edits between two raw texts after normalising both."""
    a, b = text.words(reference), text.words(hypothesis)
    tally = {"delete": 0, "insert": 0, "replace": 0}
    for operation in Levenshtein.editops(a, b):
        tally[operation.tag] += 1
    characters = " ".join(a)
    return Counts(
        hits=len(a) - tally["replace"] - tally["delete"],
        substitutions=tally["replace"],
        deletions=tally["delete"],
        insertions=tally["insert"],
        character_errors=Levenshtein.distance(characters, " ".join(b)),
        characters=len(characters),
    )


def score(counts: Sequence[Counts], speakers: Sequence[str], *, seed: int = 0) -> Score:
    """Return corpus rates with speaker-block bootstrap intervals.

    counts: one an utterance; speakers: the speaker of each, same order. Utterances of one speaker are dependent, so
    whole speakers are drawn with replacement (Liu & Peng 2019, arXiv 1912.09508). No utterances at all give None rates.
    """
    if len(counts) != len(speakers):
        raise ValueError(f"{len(counts)} utterances but {len(speakers)} speakers")
    names = {name: row for row, name in enumerate(sorted(set(speakers)))}
    table = np.array([[c.errors, c.words, c.character_errors, c.characters] for c in counts], dtype=np.float64)
    blocks = np.zeros((len(names), 4))  # one row a speaker
    if len(counts):
        np.add.at(blocks, [names[name] for name in speakers], table)
    errors, words, character_errors, characters = blocks.sum(axis=0)
    warning = None
    if len(names) == 1:
        warning = "1 speaker: no interval can be drawn from it."
    elif 0 < len(names) < FEW_SPEAKERS:
        warning = f"{len(names)} speakers: too few for the interval to be believed; it is likely to be too narrow."
    draws = _draw(blocks, seed) if len(names) > 1 else None
    return Score(
        wer=float(errors / words) if words else None,
        cer=float(character_errors / characters) if characters else None,
        wer_interval=None if draws is None else _interval(draws[:, 0], draws[:, 1]),
        cer_interval=None if draws is None else _interval(draws[:, 2], draws[:, 3]),
        clips=len(counts),
        speakers=len(names),
        words=int(words),
        hits=sum(c.hits for c in counts),
        substitutions=sum(c.substitutions for c in counts),
        deletions=sum(c.deletions for c in counts),
        insertions=sum(c.insertions for c in counts),
        normaliser=text.NORMALISER,
        warning=warning,
    )


def _draw(blocks: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Sums of resampled speakers, (DRAWS, 4): how often each speaker is drawn is one multinomial."""
    n = len(blocks)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return np.asarray(weights @ blocks, dtype=np.float64)


def _interval(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> tuple[float, float] | None:
    kept = denominator > 0
    if not kept.any():
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(numerator[kept] / denominator[kept], [tail, 1 - tail])
    return float(low), float(high)
