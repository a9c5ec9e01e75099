"""Transcripts as files: plain text, SubRip and WebVTT subtitles, a table, JSON, and a Word document.

What is shown when in subtitles is told in `subtitles`. docs/transcripts.md describes every form, and
docs/transcript.schema.json the JSON: an object, with times in seconds from the start of the recording, to the millisecond.

    {"language": "da", "seconds": 12.34, "text": "all segments, joined by spaces",
     "segments": [{"start": 0.5, "end": 3.2, "text": "...", "score": -0.1234}],
     "left_out": [], "guards": {"drawn": 0, "doubtful": 0, "no speech": 0, "credits": 0}}

where `score` is the mean log-probability of the segment's tokens: 0 is certain, below -1 is doubtful. A segment whose
words were timed has them too, `probability` from 0 to 1:

    "words": [{"start": 0.52, "end": 0.7, "text": "Rødgrød", "probability": 0.9731}]

`temperature` stands beside a text that was drawn because the likeliest was faulty, `doubt` beside one that is faulty all
the same ("loop", "compression", "rate"), `hotwords` beside one into which those expected words were put. left_out holds
segments whose doubt is "no speech" or "credits". guards counts.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hvisk.errors import HviskError
from hvisk.files import write_bytes
from hvisk.recogniser.document import to_docx
from hvisk.recogniser.guards import LEFT_OUT
from hvisk.recogniser.longform import Segment, Transcript
from hvisk.recogniser.subtitles import cues, plain
from hvisk.recogniser.words import Word

SUBTITLES = ("srt", "vtt")  # the forms that the times of words make better


def to_txt(transcript: Transcript) -> str:
    """Return a segment a line."""
    return "".join(plain(segment.text) + "\n" for segment in transcript.segments)


def to_srt(transcript: Transcript) -> str:
    """Return SubRip subtitles. The format cannot hold "-->" in a text, so that it becomes an arrow."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{_text(cue.lines).replace('-->', '→')}\n\n"
        for number, cue in enumerate(cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript) -> str:
    """Return WebVTT subtitles, with the characters escaped that mean markup there."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{_escaped(_text(cue.lines))}\n\n"
        for cue in cues(transcript)
    )


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
        f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t{plain(segment.text)}\n"
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
FORMS = (*WRITERS, "docx")


def encoded(transcript: Transcript, form: str, name: str) -> bytes:
    """Return a transcript of the recording `name` as a file's bytes, in one of FORMS; text is UTF-8."""
    return to_docx(transcript, name) if form == "docx" else WRITERS[form](transcript).encode()


def save(transcript: Transcript, path: Path | str, *, name: str | None = None) -> None:
    """Write a transcript to a file, atomically, in the form that its ending names: one of FORMS.

    name: what a Word document calls the recording, by default as the file is called. Raises HviskError for another ending,
    MissingExtra for .docx without python-docx.
    """
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise HviskError(
            f"{path}: a transcript has no form '{form}'. Accepted: {', '.join(f'.{form}' for form in FORMS)}."
        )
    write_bytes(path, encoded(transcript, form, path.stem if name is None else name))


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "score": round(segment.score, 4),
        **({"words": [_word(word) for word in segment.words]} if segment.words else {}),
        **({"temperature": segment.temperature} if segment.temperature else {}),
        **({"doubt": segment.doubt} if segment.doubt else {}),
        **({"hotwords": list(segment.hotwords)} if segment.hotwords else {}),
    }


def _word(word: Word) -> dict[str, Any]:
    return {
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "text": word.text,
        "probability": round(word.probability, 4),
    }


def _text(lines: tuple[str, ...]) -> str:
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{rest:03d}"
