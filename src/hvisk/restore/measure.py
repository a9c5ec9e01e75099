"""How good restored texts are: those of a corpus that has punctuation are stripped of it, restored, and compared.

    text -> words.bare -> work.restore -> marks and capitals, word by word -> F1 of each mark, accuracy of casing, intervals

The words are the same by guarantee, so that nothing has to be aligned. A mark that the bare text keeps, as the dot of an
ordinal, is not counted: nobody had to find it.
"""

from collections.abc import Sequence
from typing import Any

from hvisk import intervals, metrics
from hvisk.errors import CorpusError
from hvisk.restore import words
from hvisk.restore.run import Task
from hvisk.restore.work import Line, Outcome
from hvisk.text import MARKS

VERSION = "1"


def strip(given: Task) -> Task:
    """Return the same lines without punctuation and casing, to be restored; texts that have none in the first place left out.

    Raises CorpusError where none is left.
    """
    kept = [i for i, line in enumerate(given.lines) if words.finished(line.text) and words.bare(line.text)]
    if not kept:
        raise CorpusError(
            f"{given.source.path} has no texts with punctuation and casing to measure with. Give a corpus that has them, "
            "such as common-voice, fleurs or coral-tts: hvisk prepare list"
        )
    lines = [given.lines[i] for i in kept]
    return Task(
        given.source,
        tuple(given.chosen[i] for i in kept),
        tuple(
            Line(words.bare(line.text), words.bare(line.before), words.bare(line.after), line.group) for line in lines
        ),
    )


def measure(stripped: Task, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return how well the texts of a stripped task were restored, as fractions with 95 % intervals.

    marks: of each of MARKS, and of "all", the number in the texts ("reference"), precision, recall, f1 and its interval.
    casing: the words, the share with the very same casing, and f1 of having any capital. exact: the share of texts that are
    the same again in every mark and capital. Intervals are over speakers, or, where they are too few, over texts; `over`
    says which.
    """
    tallies: dict[str, list[tuple[int, int, int]]] = {mark: [] for mark in MARKS}  # found, told, true
    capitals: list[tuple[int, int, int]] = []
    casing: list[tuple[int, int]] = []
    exact: list[int] = []
    for place, line, outcome in zip(stripped.chosen, stripped.lines, outcomes, strict=True):
        true, told = _marked(stripped.source.texts[place], line.text), _marked(outcome.text, line.text)
        for mark in MARKS:
            a, b = [mark == one for _, one in true], [mark == one for _, one in told]
            tallies[mark].append((sum(x and y for x, y in zip(a, b, strict=True)), sum(b), sum(a)))
        a, b = [one != one.lower() for one, _ in true], [one != one.lower() for one, _ in told]
        capitals.append((sum(x and y for x, y in zip(a, b, strict=True)), sum(b), sum(a)))
        casing.append((sum(x[0] == y[0] for x, y in zip(true, told, strict=True)), len(true)))
        exact.append(int(true == told))
    speakers = [stripped.source.speakers[i] for i in stripped.chosen]
    over = "speakers" if len(set(speakers)) >= intervals.FEW_SPEAKERS else "texts"
    blocks = speakers if over == "speakers" else [str(i) for i in range(len(speakers))]
    every = [tuple(sum(column) for column in zip(*one, strict=True)) for one in zip(*tallies.values(), strict=True)]
    found: dict[str, Sequence[tuple[int, ...]]] = {**tallies, "all": every}
    return {
        "version": VERSION,
        "texts": len(outcomes),
        "speakers": len(set(speakers)),
        "over": over,
        "marks": {name: _f1(rows, blocks) for name, rows in found.items()},
        "casing": {
            "words": sum(total for _, total in casing),
            "accuracy": _ratio(casing),
            "interval": intervals.interval([same for same, _ in casing], [total for _, total in casing], blocks),
            "capitals": _f1(capitals, blocks),
        },
        "exact": {
            "share": sum(exact) / len(exact),
            "interval": intervals.interval(exact, [1] * len(exact), blocks),
        },
    }


def _marked(text: str, bare: str) -> list[tuple[str, str]]:
    """Each word's spelling, and the mark after it, "" where it has none or the bare text has the same."""
    found = words.spelled(text)
    kept = [mark for _, mark in words.spelled(bare)]
    return [(form, "" if mark == own else mark) for (form, mark), own in zip(found, kept, strict=True)]


def _f1(rows: Sequence[tuple[int, ...]], blocks: Sequence[str]) -> dict[str, Any]:
    """f1 is 2 found / (told + true): a ratio of sums, whose interval is a corpus rate's."""
    found, told, true = (sum(column) for column in zip(*rows, strict=True))
    both = [row[1] + row[2] for row in rows]
    return {
        **metrics.shares(found, told, true),
        "interval": intervals.interval([2 * row[0] for row in rows], both, blocks),
    }


def _ratio(rows: Sequence[tuple[int, int]]) -> float | None:
    total = sum(row[1] for row in rows)
    return sum(row[0] for row in rows) / total if total else None
