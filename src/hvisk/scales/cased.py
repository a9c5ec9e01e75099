"""Punctuation and casing as they are: orthographic word errors, and how well each mark and each capital is found."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from hvisk import metrics
from hvisk.metrics import Counts
from hvisk.predictions import Prediction
from hvisk.text import MARKS

VERSION = "1"
TITLE = "Orthographic WER: words as they are written, with casing and the marks attached to them"

_EDGES = re.compile(r"(?:[^\w\s]|_)*(.*?)((?:[^\w\s]|_)*)")

Word = tuple[str, frozenset[str]]  # as written, without the marks at its edges; which of MARKS come right after it


def normalise(text: str) -> str:
    """Return `text` in NFC with single spaces, and otherwise as it is written.

    Marks stay attached to their words, as in other orthographic error rates: "grød" against "grød." is one
    substitution. What the marks and the capitals are worth by themselves is `behaviour`'s.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def count(prediction: Prediction) -> Counts:
    """Count the edits of one clip between texts as they are written."""
    return metrics.count(prediction.reference, prediction.hypothesis, normalise=normalise)


def words(text: str) -> list[Word]:
    """Return the words of `text` with the marks that follow each; a mark that stands alone follows the word before it.

    A mark before the first word is dropped, and one written twice in a row ("!!") is one.
    """
    found: list[Word] = []
    for token in normalise(text).split():
        match = _EDGES.fullmatch(token)
        assert match is not None
        word, edge = match.groups()
        marks = frozenset(edge if word else token) & frozenset(MARKS)
        if word:
            found.append((word, marks))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] | marks)
    return found


def details(predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Return what the marks and the capitals are worth.

    Words are aligned without marks and casing. A mark is found where it follows aligned words on both sides, be they
    equal or not; `marks` holds, for each of MARKS and for "all", the number in the references ("reference"), precision,
    recall and f1. `casing` compares the words that are equal but for casing ("matched"): accuracy is the share with the
    very same casing; precision, recall and f1 are those of having any capital at all. Shares of nothing are None.
    """
    marks = {mark: [0, 0, 0] for mark in MARKS}  # found, in the hypotheses, in the references
    capitals = [0, 0, 0]
    matched = same = 0
    for prediction in predictions:
        a, b = words(prediction.reference), words(prediction.hypothesis)
        for side, place in ((b, 1), (a, 2)):
            for _, follow in side:
                for mark in follow:
                    marks[mark][place] += 1
        for (one, one_marks), (other, other_marks) in _pairs(a, b):
            for mark in one_marks & other_marks:
                marks[mark][0] += 1
            if one.lower() == other.lower():
                matched += 1
                same += one == other
                big, found = one != one.lower(), other != other.lower()
                capitals[0] += big and found
                capitals[1] += found
                capitals[2] += big
    total = [sum(tally) for tally in zip(*marks.values(), strict=True)]
    return {
        "marks": {name: metrics.shares(*tally) for name, tally in {**marks, "all": total}.items()},
        "casing": {"matched": matched, "accuracy": same / matched if matched else None, **metrics.shares(*capitals)},
    }


def _pairs(a: Sequence[Word], b: Sequence[Word]) -> Iterable[tuple[Word, Word]]:
    left, right = [word.lower() for word, _ in a], [word.lower() for word, _ in b]
    for block in Levenshtein.opcodes(left, right):
        if block.tag in ("equal", "replace"):
            yield from zip(a[block.src_start : block.src_end], b[block.dest_start : block.dest_end], strict=True)
