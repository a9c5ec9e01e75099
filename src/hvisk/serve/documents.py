"""A job's transcript as the page has it, before and after somebody corrected it, and as files to take away.

A document is a dict: version, language, seconds, name, segments ({start, end, text, speaker, checked, score, doubt, words})
and left_out. Version 1 is what was recognised; each save makes the next, and is refused where another one came first.
"""

import contextlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hvisk.serve.jobs import Job, Jobs
from hvisk.serve.settings import Settings

TYPES = {
    "txt": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
Form = Literal["txt", "srt", "vtt", "docx", "json", "tsv"]


def _printable(text: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("a text holds half of a character")
    return "".join(c for c in text if c in "\t\n" or unicodedata.category(c) != "Cc")


Text = Annotated[str, Field(max_length=20_000), AfterValidator(_printable)]
Label = Annotated[str, Field(max_length=100), AfterValidator(_printable)]
Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Word(BaseModel):
    """A word and when it is said, in seconds of the recording."""

    model_config = ConfigDict(extra="forbid")
    start: Seconds
    end: Seconds
    text: Label
    probability: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None


class Segment(BaseModel):
    """What is said from `start` to `end`. checked: somebody has listened to it, and it is right."""

    model_config = ConfigDict(extra="forbid")
    start: Seconds
    end: Seconds
    text: Text
    speaker: Label = ""
    checked: bool = False
    score: Annotated[float, Field(allow_inf_nan=False)] | None = None
    temperature: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    doubt: Label = ""
    words: Annotated[list[Word], Field(max_length=5000)] = []


class Edited(BaseModel):
    """A transcript to be saved. version: the one that it was made of; segments in the order of time."""

    model_config = ConfigDict(extra="forbid")
    version: Annotated[int, Field(ge=1, le=2**31 - 2)]
    segments: Annotated[list[Segment], Field(max_length=50_000)]

    @model_validator(mode="after")
    def ordered(self) -> Self:
        starts = [segment.start for segment in self.segments]
        if starts != sorted(starts) or any(segment.end < segment.start for segment in self.segments):
            raise ValueError("segments must be in the order of time, and end after they start")
        return self


def recognised(job: Job, segments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return version 1 of a document."""
    kept = [segment for segment in segments if not segment["left_out"]]
    return {
        "version": 1,
        "saved": None,
        "name": job["name"],
        "language": job["options"]["language"],
        "seconds": round(job["seconds"] or job["heard"], 3),
        "segments": [shown(segment) for segment in kept],
        "left_out": [shown(segment) for segment in segments if segment["left_out"]],
    }


def shown(segment: Mapping[str, Any]) -> dict[str, Any]:
    """Return a segment as the page is shown it, before anybody touched it."""
    names = ("start", "end", "text", "score", "temperature", "doubt", "words")
    return {**{name: segment[name] for name in names}, "speaker": "", "checked": False}


def load(jobs: Jobs, job: Job) -> dict[str, Any]:
    """Return the newest version of a job's document."""
    document = recognised(job, jobs.segments(job["id"]))
    if (edited := jobs.edited(job["id"])) is not None:
        version, saved, data = edited
        document |= {"version": version, "saved": saved, "segments": data["segments"]}
    return document


def exported(document: Mapping[str, Any], form: str) -> bytes:
    """Return a document as a file in one of TYPES. Raises MissingExtra for docx without python-docx."""
    from hvisk.recogniser import writers
    from hvisk.recogniser.longform import Segment as Heard
    from hvisk.recogniser.longform import Transcript
    from hvisk.recogniser.words import Word as Timed

    if form == "json":
        text = " ".join(segment["text"] for segment in document["segments"])
        return (json.dumps({"text": text, **document}, ensure_ascii=False, indent=2) + "\n").encode()
    segments = []
    for segment in document["segments"]:
        label = f"{segment['speaker']}: " if segment["speaker"] and form != "tsv" else ""
        words = [
            Timed(word["text"], word["start"], word["end"], word["probability"] or 0.0) for word in segment["words"]
        ]
        if " ".join(word.text for word in words).split() != segment["text"].split():
            words = []  # corrected: the words that were timed are not those of the text
        elif words and label:
            words[0] = Timed(label + words[0].text, words[0].start, words[0].end, words[0].probability)
        if segment["text"].strip():
            text, score, doubt = label + segment["text"], segment["score"] or 0.0, segment["doubt"]
            segments.append(Heard(segment["start"], segment["end"], text, score, tuple(words), 0.0, doubt))
    transcript = Transcript(tuple(segments), document["language"], document["seconds"])
    return writers.encoded(transcript, form, document["name"])


def model_name(settings: Settings) -> str:
    """Return what the served model is called: as it was asked for, a path by its last part."""
    name = settings.model or "hvisk"
    with contextlib.suppress(OSError, ValueError):
        path = Path(name)
        if path.exists():
            path = path.resolve()
            return path.parent.name if path.name == "model" else path.name
    return name
