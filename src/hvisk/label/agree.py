"""What teachers wrote of a clip -> the label that it gets, and how far that can be trusted; or why it gets none.

    wide    enough agreement to widen what a model knows
    clean   enough to decide how it writes

The first teacher's words are the label: it should be the one that cannot go in circles (CTC, a transducer). Its words are
never changed; punctuation and casing come from another teacher, by alignment, under the guarantee of `restore.words`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from rapidfuzz.distance import Levenshtein

from hvisk import text
from hvisk.behaviour import COMPRESSION, compression, loop
from hvisk.label.language import danish
from hvisk.recogniser.credits import is_credit
from hvisk.restore import words

Stage = Literal["wide", "clean", ""]

EDGE = 10  # characters at either end, where a cut goes wrong: KB-Whisper's filter (2025) looks at about so many
# Of the speech that was cut out, pauses included. Slower is a word that was lost, faster a text that was made up.
SLOWEST, FASTEST = 0.5, 6.0  # words a second
GRAM, GRAMS = 3, 4  # so many words in a row, so often in one clip
COPIES = 10  # of one text in all: NB-Whisper keeps so many of a programme's


@dataclass(frozen=True)
class Limits:
    """How far two teachers may differ. cer: of the whole text; edge: of its first and last EDGE characters.

    The values are those of small_asr: inter-teacher CER of 10 to 15 %; edges of 0.2 for what is clean, and of 0.4 for
    the rest, as KB-Whisper's stage for subtitles has it.
    """

    wide_cer: float = 0.15
    wide_edge: float = 0.4
    clean_cer: float = 0.10
    clean_edge: float = 0.2


@dataclass(frozen=True)
class Label:
    """A clip's text and stage, or the reason why it has none. marks: where its punctuation and casing come from.

    cer, head, tail: of the first teacher and the one that agrees best with it, None with a single teacher and in silence.
    """

    text: str = ""
    stage: Stage = ""
    reason: str = ""
    marks: Literal["own", "exact", "repaired", "none", ""] = ""
    cer: float | None = None
    head: float | None = None
    tail: float | None = None


def labels(rows: Iterable[Mapping[str, Any]], limits: Limits, language: str) -> Iterator[Label]:
    """Yield the label of each clip, in order. rows: as `block.SCHEMA` has them, without sound and broken recordings.

    The same sound twice is labelled once, and the same text COPIES times.
    """
    sounds: set[str] = set()
    texts: Counter[str] = Counter()
    for row in rows:
        found = label(row, limits, language)
        if found.stage and row["hash"] in sounds:
            found = Label(reason="the same sound again")
        elif found.stage and found.text:
            key = text.plain(found.text)
            texts[key] += 1
            if texts[key] > COPIES:
                found = Label(reason="the same text again")
        if found.stage:
            sounds.add(row["hash"])
        yield found


def label(row: Mapping[str, Any], limits: Limits, language: str) -> Label:
    """Return the label of one clip, by itself."""
    written: list[str] = row["texts"]
    if any(row["notes"]):
        return Label(reason="a teacher failed")
    if row["silent"]:
        if any(text.plain(one) and not is_credit(one) for one in written):
            return Label(reason="words in silence")
        return Label(reason=row["unfit"]) if row["unfit"] else Label(stage="clean" if len(written) > 1 else "wide")
    if reason := _fault(written, row["end"] - row["start"], row["unfit"], language):
        return Label(reason=reason)
    if len(written) == 1:
        return _marked(written, "wide")
    return _agreed(written, limits)


def _fault(written: Sequence[str], seconds: float, unfit: str, language: str) -> str:
    """What is wrong with a clip whatever the teachers make of each other, or ""."""
    spoken = [text.normalise(one).split() for one in written]
    if not spoken[0]:
        return "no words"
    if any(map(is_credit, written)):
        return "credit line"
    if any(loop(said) or _grams(said) >= GRAMS for said in spoken):
        return "repeated words"
    if any(compression(one) > COMPRESSION for one in written):
        return "compresses too well"
    if unfit:
        return unfit
    rate = len(spoken[0]) / seconds
    if rate < SLOWEST:
        return "too few words a second"
    if rate > FASTEST:
        return "too many words a second"
    if language == "da" and not all(map(danish, written)):
        return "another language"
    return ""


def _agreed(written: Sequence[str], limits: Limits) -> Label:
    first, *others = (text.normalise(one) for one in written)
    cer, head, tail = min(
        (_rate(first, other), _rate(first[:EDGE], other[:EDGE]), _rate(first[-EDGE:], other[-EDGE:]))
        for other in others
    )
    reason = ""
    if cer > limits.wide_cer:
        reason = "teachers disagree"
    elif head > limits.wide_edge:
        reason = "teachers disagree on the beginning"
    elif tail > limits.wide_edge:
        reason = "teachers disagree on the end"
    clean = cer <= limits.clean_cer and max(head, tail) <= limits.clean_edge
    found = Label(reason=reason) if reason else _marked(written, "clean" if clean else "wide")
    return replace(found, cer=round(cer, 4), head=round(head, 4), tail=round(tail, 4))


def _marked(written: Sequence[str], stage: Stage) -> Label:
    """The first teacher's words with the first marks that can be had; without any where another has them, it is not clean."""
    first, *others = written
    marked = [other for other in others if words.bare(other) != other]
    if words.finished(first) or not marked:
        return Label(first, stage, marks="own" if words.bare(first) != first else "none")
    for other in marked:
        verdict = words.read(first, other)
        if verdict.text:
            return Label(verdict.text, stage, marks="exact" if verdict.how == "exact" else "repaired")
    own = words.bare(first) != first
    return Label(first, stage if own else "wide", marks="own" if own else "none")


def _rate(reference: str, hypothesis: str) -> float:
    return Levenshtein.distance(reference, hypothesis) / max(1, len(reference))


def _grams(said: Sequence[str]) -> int:
    """How often the commonest GRAM words in a row occur."""
    counts = Counter(zip(*(said[shift:] for shift in range(GRAM)), strict=False))
    return max(counts.values(), default=0)
