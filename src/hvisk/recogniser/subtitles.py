"""A transcript -> subtitle cues: what is on the screen together, in which lines, from when to when.

    segments -> words with times -> parted into cues, where a reader would part them -> short ones joined -> read in time

The rules are those of broadcasters. Netflix's Danish Timed Text Style Guide: 42 characters a line, 17 characters a second
(https://partnerhelp.netflixstudios.com/hc/en-us/articles/216014347). Its General Requirements: two lines, 5/6 to 7 seconds,
two frames between cues; lines break after punctuation, else before conjunctions and prepositions, and part no noun from its
article, no first name from its last (.../215758617). Its Subtitle Timing Guidelines: a cue may outlast the speech, to be
read, and gaps of less than half a second are closed (.../360051554394). They allow half a second of it; here it lasts as
long as reading takes.

Nobody's words are shortened: where people speak faster than that, and no silence follows, the cue is read faster too.
"""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hvisk.recogniser.longform import Segment, Transcript

LINE_CHARACTERS = 42
CHARACTERS_PER_SECOND = 17  # spaces and punctuation count
LEAST_MS, MOST_MS = 834, 7_000
GAP_MS = 80  # two frames at Europe's 25 a second
CHAIN_MS = 500  # a shorter gap flickers: the cue before it stays until GAP_MS before the next

PAUSE_MS = 600  # between two words, from which on it parts a text as a full stop does

# What a break costs, beside CUE: that of showing one cue more.
CUE = 6.0
WAIT = 6.0  # for each second that a cue shows words too early, because of a pause among them
SENTENCE, CLAUSE, CONJUNCTION, PREPOSITION, PLAIN, NAME, BOUND = 0.0, 1.0, 2.0, 3.0, 5.0, 9.0, 12.0


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Danish; other languages have their punctuation and balance alone.
_PREPOSITIONS = _set(
    "ad af bag blandt efter for fra før gennem hos i inden langs med mellem mod om omkring over på siden til trods uden "
    "under ved via"
)
_CONJUNCTIONS = _set("at da der eller end fordi hvad hvem hvis hvor hvordan hvorfor men mens når og om selvom som så")
_LEADING = _set(  # articles, possessives, subjects, auxiliaries, negation: they belong to what follows
    "den denne det dette de deres dets dens din dine disse dit du en er et han hans har havde hendes hun hver hvert ikke "
    "jeg jeres kan kunne man min mine mit må måtte nogle sin sine sit skal skulle var vi vil ville vores blev bliver"
)
_BOUND = _PREPOSITIONS | _CONJUNCTIONS | _LEADING

_CLOSING = "\"'»«”’)]"
_SENTENCE_END = re.compile(rf"[.?!…][{re.escape(_CLOSING)}]*$")
_CLAUSE_END = re.compile(rf"[,;:–—][{re.escape(_CLOSING)}]*$|^[–—-]$")


@dataclass(frozen=True)
class Cue:
    """Lines that are shown together, from `start` until `end`, in milliseconds of the recording."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Said:
    """A word and when it is said, in milliseconds; the times are estimated where they were not measured."""

    text: str
    start: int
    end: int


def cues(transcript: Transcript) -> list[Cue]:
    """Return the cues of a transcript, in order, without overlap; a segment's words time them where it has words."""
    danish = transcript.language == "da"
    parts = [part for segment in transcript.segments for part in _parted(_said(segment), danish)]
    parts = _joined(parts, danish)
    return _timed(parts, [_lines(part, danish) for part in parts], round(transcript.seconds * 1000))


def plain(text: str) -> str:
    """Return a text on one line: a blank line would end a cue."""
    return " ".join(text.split())


def _said(segment: Segment) -> list[_Said]:
    texts = segment.text.split()
    if texts and [word.text for word in segment.words] == texts:
        return [_Said(word.text, round(word.start * 1000), round(word.end * 1000)) for word in segment.words]
    start, end = round(segment.start * 1000), round(segment.end * 1000)
    edges = _edges(texts)
    times = [start + (end - start) * edge // max(edges[-1], 1) for edge in edges]
    return [_Said(text, *times[i : i + 2]) for i, text in enumerate(texts)]


def _edges(texts: Sequence[str]) -> list[int]:
    """Where each word begins in the text that they make, and where one more would."""
    edges = [0]
    for text in texts:
        edges.append(edges[-1] + len(text) + 1)
    return edges


def _parted(words: Sequence[_Said], danish: bool) -> list[Sequence[_Said]]:
    """The cheapest way to part words into cues: few, broken where a reader would break, none too long to stay."""
    costs, edges = _costs(words, danish), _edges([word.text for word in words])
    waits = [
        0.0,
        *(max(0, later.start - earlier.end - PAUSE_MS) / 1000 for earlier, later in itertools.pairwise(words)),
    ]
    waited = list(itertools.accumulate(waits))
    best: list[tuple[float, int]] = [(0.0, 0)]  # of the first words: the least cost, and where the last cue begins
    for end in range(1, len(words) + 1):
        options = []
        for begin in range(end - 1, -1, -1):
            shape, at = _shape(costs, edges, begin, end)
            if at is None:
                break  # and a longer one would not fit either
            length, lasts = edges[end] - edges[begin] - 1, words[end - 1].end - words[begin].start
            shown = shape + _duration_cost(length, lasts) + WAIT * (waited[end - 1] - waited[begin])
            options.append((best[begin][0] + CUE + shown, begin))
        cost, begin = min(options)
        best.append((cost + (costs[end] if end < len(words) else 0.0), begin))
    found: list[Sequence[_Said]] = []
    end = len(words)
    while end:
        found.append(words[best[end][1] : end])
        end = best[end][1]
    return found[::-1]


def _duration_cost(length: int, lasts: int) -> float:
    too_long = 10.0 * max(0, lasts - MOST_MS) / 1000 if length > LINE_CHARACTERS else 0.0  # a line stays one
    return too_long + 6.0 * max(0, LEAST_MS - lasts) / LEAST_MS + 4.0 * max(0.0, 1 - length / 20)


def _costs(words: Sequence[_Said], danish: bool) -> list[float]:
    """What it costs to break before each word."""
    return [0.0, *(_cost(before, after, danish) for before, after in itertools.pairwise(words))]


def _cost(earlier: _Said, later: _Said, danish: bool) -> float:
    before, after = earlier.text, later.text
    if later.start - earlier.end >= PAUSE_MS:
        return SENTENCE
    ends = _SENTENCE_END.search(before)
    if ends:  # "kl. 8", "3. maj" and "f.eks. når" are no ends
        return BOUND if before[ends.start()] == "." and not after[:1].isupper() and after[:1].isalnum() else SENTENCE
    if _CLAUSE_END.search(before):
        return CLAUSE
    first, second = before.strip(_CLOSING).casefold(), after.strip(_CLOSING).casefold()
    if danish and first in _BOUND:
        return BOUND
    if before[:1].isupper() and after[:1].isupper():
        return NAME
    if danish and second in _CONJUNCTIONS:
        return CONJUNCTION
    if danish and second in _PREPOSITIONS:
        return PREPOSITION
    return PLAIN


def _shape(costs: Sequence[float], edges: Sequence[int], begin: int, end: int) -> tuple[float, int | None]:
    """What the cheapest lines of these words cost, and where the second begins: at `end` for a single line, None where
    they do not fit. A word that is longer than a line stays whole: a cut in it would be read as two words.
    """
    length = edges[end] - edges[begin] - 1
    if length <= LINE_CHARACTERS or end - begin == 1:
        return 0.0, end
    best: tuple[float, int | None] = (math.inf, None)
    for at in range(begin + 1, end):
        upper, lower = edges[at] - edges[begin] - 1, edges[end] - edges[at] - 1
        if (upper <= LINE_CHARACTERS or at == begin + 1) and (lower <= LINE_CHARACTERS or at == end - 1):
            uneven = 3.0 * abs(upper - lower) / LINE_CHARACTERS + (0.25 if upper > lower else 0.0)
            best = min(best, (costs[at] + uneven, at))
    return best


def _lines(words: Sequence[_Said], danish: bool) -> tuple[str, ...]:
    """The cheapest lines of a cue; none where they do not fit."""
    texts = [word.text for word in words]
    _, at = _shape(_costs(words, danish), _edges(texts), 0, len(texts))
    if at is None:
        return ()
    return tuple(" ".join(part) for part in (texts[:at], texts[at:]) if part)


def _joined(parts: Sequence[Sequence[_Said]], danish: bool) -> list[Sequence[_Said]]:
    """Join a cue to the next, or to the one before, where it could not stay long enough and both fit together."""
    kept: list[Sequence[_Said]] = []
    for part in parts:
        hurried = kept and part[0].start - GAP_MS - kept[-1][0].start < LEAST_MS
        if hurried and _fits(both := [*kept[-1], *part], danish):
            kept[-1] = both
        else:
            kept.append(part)
    found: list[Sequence[_Said]] = []
    for i, part in enumerate(kept):
        short = i + 1 < len(kept) and kept[i + 1][0].start - GAP_MS - part[0].start < LEAST_MS
        near = found and part[0].start - found[-1][-1].end < CHAIN_MS
        if short and near and _fits(both := [*found[-1], *part], danish):
            found[-1] = both
        else:
            found.append(part)
    return found


def _fits(words: Sequence[_Said], danish: bool) -> bool:
    return words[-1].end - words[0].start <= MOST_MS and bool(_lines(words, danish))


def _timed(parts: Sequence[Sequence[_Said]], lines: Sequence[tuple[str, ...]], length: int) -> list[Cue]:
    starts: list[int] = []
    for part in parts:  # words in a hurry may share a millisecond
        starts.append(max(part[0].start, starts[-1] + 1 if starts else 0))
    found = []
    for i, part in enumerate(parts):
        start = starts[i]
        following = starts[i + 1] if i + 1 < len(parts) else None
        limit = max(length, part[-1].end) if following is None else max(following - GAP_MS, (start + following) // 2)
        read = 1000 * len(" ".join(lines[i])) // CHARACTERS_PER_SECOND
        end = min(max(part[-1].end, start + max(read, LEAST_MS)), limit)
        if following is not None and following - end < CHAIN_MS:
            end = limit
        found.append(Cue(start, max(min(end, start + MOST_MS), start + 1), lines[i]))
    return found
