"""Transcripts as text: plain, SubRip and WebVTT subtitles, a table, and JSON. Each writer is Transcript -> str.

Subtitles show two lines of at most 42 characters (the common rule of broadcasters: a line's width on a screen, and what
is read at a glance). A longer segment becomes several, and shares its time out by their characters.

The JSON is an object; times are seconds from the start of the recording, to the millisecond:

    {"language": "da", "seconds": 12.34, "text": "all segments, joined by spaces",
     "segments": [{"start": 0.5, "end": 3.2, "text": "...", "score": -0.1234}],
     "left_out": [], "guards": {"drawn": 0, "doubtful": 0, "no speech": 0, "credits": 0}}

where `score` is the mean log-probability of the segment's tokens: 0 is certain, below -1 is doubtful. A segment whose
words were timed has them too, `probability` from 0 to 1:

    "words": [{"start": 0.52, "end": 0.7, "text": "Rødgrød", "probability": 0.9731}]

`temperature` stands beside a text that was drawn because the likeliest was faulty, `doubt` beside one that is faulty all
the same ("loop", "compression", "rate"). left_out holds segments whose doubt is "no speech" or "credits". guards counts.
"""

import itertools
import json
import math
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from hvisk.recogniser.guards import LEFT_OUT
from hvisk.recogniser.longform import Segment, Transcript
from hvisk.recogniser.words import Word

LINE_CHARACTERS = 42
CUE_LINES = 2


def to_txt(transcript: Transcript) -> str:
    """Return a segment a line."""
    return "".join(_plain(segment.text) + "\n" for segment in transcript.segments)


def to_srt(transcript: Transcript) -> str:
    """Return SubRip subtitles. The format cannot hold "-->" in a text, so that it becomes an arrow."""
    cues = enumerate(_cues(transcript), start=1)
    return "".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text.replace('-->', '→')}\n\n"
        for number, (start, end, text) in cues
    )


def to_vtt(transcript: Transcript) -> str:
    """Return WebVTT subtitles, with the characters escaped that mean markup there."""
    cues = (
        f"{_time(start, '.')} --> {_time(end, '.')}\n{_escaped(text)}\n\n" for start, end, text in _cues(transcript)
    )
    return "WEBVTT\n\n" + "".join(cues)


def to_json(transcript: Transcript) -> str:
    """Return the object that the module describes."""
    kept = transcript.segments
    value = {
        "language": transcript.language,
        "seconds": round(transcript.seconds, 3),
        "text": " ".join(segment.text for segment in kept),
        "segments": [_segment(segment) for segment in kept],
        "left_out": [_segment(segment) for segment in transcript.left_out],
        "guards": guarded(transcript),
    }
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def guarded(transcript: Transcript) -> dict[str, int]:
    """Return how many segments the guards drew again, found doubtful and kept, or left out, by reason."""
    counts = {
        "drawn": sum(segment.temperature > 0 for segment in transcript.segments),
        "doubtful": sum(bool(segment.doubt) for segment in transcript.segments),
    }
    for reason in LEFT_OUT:
        counts[reason] = sum(segment.doubt == reason for segment in transcript.left_out)
    return counts


def to_tsv(transcript: Transcript) -> str:
    """Return a header and a segment a line, its start and end in milliseconds, as OpenAI's Whisper writes it."""
    rows = (
        f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t{_plain(segment.text)}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


WRITERS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "json": to_json,
}


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "score": round(segment.score, 4),
        **({"words": [_word(word) for word in segment.words]} if segment.words else {}),
        **({"temperature": segment.temperature} if segment.temperature else {}),
        **({"doubt": segment.doubt} if segment.doubt else {}),
    }


def _word(word: Word) -> dict[str, Any]:
    return {
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "text": word.text,
        "probability": round(word.probability, 4),
    }


def _cues(transcript: Transcript) -> Iterator[tuple[int, int, str]]:
    """Yield start and end, in milliseconds, and one or two lines of text."""
    for segment in transcript.segments:
        lines = _lines(_plain(segment.text))
        texts = ["\n".join(lines[at : at + CUE_LINES]) for at in range(0, len(lines), CUE_LINES)]
        yield from zip(*_shares(segment, texts), texts, strict=True)


def _shares(segment: Segment, texts: list[str]) -> tuple[list[int], list[int]]:
    start, end = round(segment.start * 1000), round(segment.end * 1000)
    read = [0, *itertools.accumulate(len(text) for text in texts)]
    times = [start + (end - start) * characters // max(read[-1], 1) for characters in read]
    return times[:-1], times[1:]


def _lines(text: str) -> list[str]:
    """Wrap into as few lines as LINE_CHARACTERS allow, and those as even as they get: no last line of one word."""
    lines = _wrap(text, LINE_CHARACTERS)
    if len(lines) < 2:
        return lines
    for width in range(math.ceil(len(text) / len(lines)), LINE_CHARACTERS):
        even = _wrap(text, width)
        if len(even) == len(lines):
            return even
    return lines


def _wrap(text: str, width: int) -> list[str]:
    # A word that is longer than a line stays whole: a cut in it would be read as two words.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _plain(text: str) -> str:
    return " ".join(text.split())  # a blank line would end the cue


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"
