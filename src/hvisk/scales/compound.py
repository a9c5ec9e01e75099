"""Word errors without those that are only a matter of writing together or apart: "blåbær grød" against "blåbærgrød".

A span of words of the reference and one of the hypothesis are equal where their letters are, spaces and hyphens aside.
No lexicon takes part, so that nothing else is forgiven. The alignment is the one with the fewest errors when such spans
cost nothing; it never has more than the plain alignment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from hvisk import text
from hvisk.metrics import Counts
from hvisk.predictions import Prediction

VERSION = f"1 ({text.NORMALISER})"
TITLE = (
    "Compound-tolerant WER: words written together or apart are no error; over the words of the reference as it is, "
    "CER without spaces"
)

_FAR = 1 << 30


@dataclass(frozen=True)
class Alignment:
    """Counts over the words of the reference, and the spans that were forgiven as (reference, hypothesis)."""

    hits: int
    substitutions: int
    deletions: int
    insertions: int
    spans: tuple[tuple[str, str], ...]


def count(
    prediction: Prediction, normalise: Callable[[str], str] = text.normalise
) -> tuple[Counts, tuple[tuple[str, str], ...]]:
    """Count the edits of one clip under our normaliser, with the spans that were forgiven.

    The words are those of the reference as it is written, so that the rate has the denominator of the headline: a
    forgiven span's reference words are hits. Characters are counted without the spaces between words, on both sides.
    """
    a, b = normalise(prediction.reference).split(), normalise(prediction.hypothesis).split()
    found = align(a, b)
    letters = "".join(a)
    errors = Levenshtein.distance(letters, "".join(b))
    counted = Counts(found.hits, found.substitutions, found.deletions, found.insertions, errors, len(letters))
    return counted, found.spans


def align(a: Sequence[str], b: Sequence[str], *, single: bool = False) -> Alignment:
    """Align the words of reference `a` and hypothesis `b`, spans with equal letters free of cost.

    With `single`, one side of a span is a single word ("a bc" against "ab c" is then two errors, not none).
    """
    free = _spans(a, b, single)
    if not free:
        tally = {"delete": 0, "insert": 0, "replace": 0}
        for edit in Levenshtein.editops(a, b):
            tally[edit.tag] += 1
        hits = len(a) - tally["replace"] - tally["delete"]
        return Alignment(hits, tally["replace"], tally["delete"], tally["insert"], ())
    return _traced(a, b, free, _costs(a, b, free))


def _spans(a: Sequence[str], b: Sequence[str], single: bool) -> dict[tuple[int, int], tuple[int, int]]:
    """The shortest span of equal letters that begins at words (i, j), as its numbers of words, where it is not 1 and 1."""
    starts: dict[str, list[int]] = {}
    for j, word in enumerate(b):
        starts.setdefault(word[0], []).append(j)
    found = {}
    for i, word in enumerate(a):
        for j in starts.get(word[0], ()):
            if word == b[j] or not (word.startswith(b[j]) or b[j].startswith(word)):
                continue
            left, right, m, n = word, b[j], 1, 1
            while left != right:
                if len(left) < len(right) and right.startswith(left) and i + m < len(a):
                    left, m = left + a[i + m], m + 1
                elif len(right) < len(left) and left.startswith(right) and j + n < len(b):
                    right, n = right + b[j + n], n + 1
                else:
                    break
            if left == right and (not single or 1 in (m, n)):
                found[i, j] = (m, n)
    return found


def _costs(a: Sequence[str], b: Sequence[str], free: dict[tuple[int, int], tuple[int, int]]) -> list[list[int]]:
    """Fewest errors to the end from words (i, j); beyond the band, where no best alignment can be, the cost is _FAR."""
    rows, columns = len(a), len(b)
    band = _band(a, b, free)
    costs = [[_FAR] * (columns + 1) for _ in range(rows)] + [list(range(columns, -1, -1))]
    for i in range(rows - 1, -1, -1):
        row, below, word = costs[i], costs[i + 1], a[i]
        after = _FAR  # the cost at j + 1
        for j in range(min(columns, i + band), max(0, i - band) - 1, -1):
            best = min(below[j], after) + 1
            if j < columns:
                best = min(best, below[j + 1] + (word != b[j]))
                span = free.get((i, j))
                if span:
                    best = min(best, costs[i + span[0]][j + span[1]])
            row[j] = after = best
    return costs


def _band(a: Sequence[str], b: Sequence[str], free: dict[tuple[int, int], tuple[int, int]]) -> int:
    """How far from the diagonal a best alignment can come.

    An error moves it by one word at most, and there are never more errors than without spans; a span moves it by the
    difference of its words, and at most one begins at each word of `a`. What leads away must lead back, to the end.
    """
    shifts: dict[int, int] = {}
    for (i, _), (m, n) in free.items():
        shifts[i] = max(shifts.get(i, 0), abs(m - n))
    return (Levenshtein.distance(a, b) + sum(shifts.values()) + abs(len(a) - len(b))) // 2 + 1


def _traced(
    a: Sequence[str], b: Sequence[str], free: dict[tuple[int, int], tuple[int, int]], costs: list[list[int]]
) -> Alignment:
    i = j = hits = substitutions = deletions = insertions = 0
    spans = []
    while i < len(a) or j < len(b):
        cost = costs[i][j]
        m, n = free.get((i, j), (0, 0))
        if i < len(a) and j < len(b) and a[i] == b[j] and costs[i + 1][j + 1] == cost:
            i, j, hits = i + 1, j + 1, hits + 1
        elif m and costs[i + m][j + n] == cost:
            spans.append((" ".join(a[i : i + m]), " ".join(b[j : j + n])))
            i, j, hits = i + m, j + n, hits + m
        elif i < len(a) and j < len(b) and costs[i + 1][j + 1] + 1 == cost:
            i, j, substitutions = i + 1, j + 1, substitutions + 1
        elif i < len(a) and costs[i + 1][j] + 1 == cost:
            i, deletions = i + 1, deletions + 1
        else:
            j, insertions = j + 1, insertions + 1
    return Alignment(hits, substitutions, deletions, insertions, tuple(spans))
