"""From pairs of reference and hypothesis to error rates with intervals.

    counts = [count(reference, hypothesis) for ...]      edit operations of each utterance
    score(counts, speakers)                              corpus rates, bootstrap interval over speakers

WER here is the standard corpus word error rate, (S + D + I) / (S + D + H): insertions are in the numerator alone, so it
can exceed 100 %. CER is the same over characters, with the single spaces between words counted as characters.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from hvisk import intervals, text


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


def align(reference: str, hypothesis: str, normalise: Callable[[str], str] = text.normalise) -> list[Edit]:
    """Return the word alignment of two raw texts, both normalised first, as edits from left to right."""
    a, b = normalise(reference).split(), normalise(hypothesis).split()
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


def count(reference: str, hypothesis: str, normalise: Callable[[str], str] = text.normalise) -> Counts:
    """Count the edits between two raw texts after normalising both.

    A word of one letter is a word. An empty reference has no words, so that all of the hypothesis is insertions.
    """
    a, b = normalise(reference).split(), normalise(hypothesis).split()
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
    columns = [(c.errors, c.words, c.character_errors, c.characters) for c in counts]
    errors, words, character_errors, characters = zip(*columns, strict=True) if columns else ((), (), (), ())
    number = len(set(speakers))
    return Score(
        wer=sum(errors) / sum(words) if sum(words) else None,
        cer=sum(character_errors) / sum(characters) if sum(characters) else None,
        wer_interval=intervals.interval(errors, words, speakers, seed=seed),
        cer_interval=intervals.interval(character_errors, characters, speakers, seed=seed),
        clips=len(counts),
        speakers=number,
        words=sum(words),
        hits=sum(c.hits for c in counts),
        substitutions=sum(c.substitutions for c in counts),
        deletions=sum(c.deletions for c in counts),
        insertions=sum(c.insertions for c in counts),
        normaliser=text.NORMALISER,
        warning=intervals.few_speakers(number),
    )


def shares(found: int, told: int, true: int) -> dict[str, int | float | None]:
    """Return how well something was found: `found` rightly, of `told` that were said to be there and `true` that are.

    reference is `true`; precision, recall and f1 are fractions, None where they would be shares of nothing.
    """
    return {
        "reference": true,
        "precision": found / told if told else None,
        "recall": found / true if true else None,
        "f1": 2 * found / (told + true) if told + true else None,
    }
