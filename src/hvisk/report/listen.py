"""Clips to listen to, with what was said and what was written aligned: the same list on every page."""

import base64
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hvisk import metrics

Why = Literal["worst", "random", "example"]
MOST_VALUES = 30  # a column of more values is no filter


@dataclass(frozen=True)
class Clip:
    """A clip to listen to, and why it was chosen.

    hypotheses: system name and raw text, the system that matters most first. labels: the clip's value in each column that
    it can be filtered by. audio: an encoded file that browsers play (FLAC, Ogg/Opus), b"" for none; mime: what it is.
    """

    id: str
    why: Why
    speaker: str
    seconds: float
    reference: str
    hypotheses: Sequence[tuple[str, str]]
    labels: Mapping[str, str] = field(default_factory=dict)
    audio: bytes = b""
    mime: str = "audio/flac"


def choose_clips(
    counts: Sequence[tuple[str, metrics.Counts]], *, worst: int, others: int, seed: int = 0
) -> list[tuple[str, Why]]:
    """Return the ids of at most `worst` clips with the most word errors, worst first, then of `others` random ones.

    counts: id and edit counts of every clip. A clip without an error is never among the worst; the random ones are
    drawn from all the rest. The order of `counts` makes no difference.
    """
    wrong = [pair for pair in counts if pair[1].errors]
    wrong.sort(key=lambda pair: (-pair[1].errors, pair[1].words, pair[0]))  # at equal errors the shorter clip is worse
    chosen = [name for name, _ in wrong[:worst]]
    rest = sorted({name for name, _ in counts}.difference(chosen))
    drawn = random.Random(seed).sample(rest, min(others, len(rest)))
    return [*((name, "worst") for name in chosen), *((name, "random") for name in drawn)]


def line(name: str, reference: str, hypothesis: str) -> dict[str, Any]:
    """Return one system's answer as the templates show it: aligned words, errors, and their rate where words were said."""
    edits = metrics.align(reference, hypothesis)
    words = sum(edit.kind != "insert" for edit in edits)
    errors = sum(edit.kind != "equal" for edit in edits)
    return {"name": name, "edits": edits, "errors": errors, "wer": errors / words if words else None}


def shown(clip: Clip) -> dict[str, Any]:
    """Return a clip as clips.html.jinja takes it, and as clips.js reads it: errors, rates and labels in JSON."""
    lines = [line(name, clip.reference, text) for name, text in clip.hypotheses]
    # Words where nobody speaks are as wrong as can be: such a clip has no rate, and counts as one of 100 %.
    rates = {one["name"]: one["wer"] if one["wer"] is not None else float(one["errors"] > 0) for one in lines}
    return {
        "clip": clip,
        "lines": lines,
        "sound": f"data:{clip.mime};base64,{base64.b64encode(clip.audio).decode()}" if clip.audio else None,
        "errors": json.dumps({one["name"]: one["errors"] for one in lines}),
        "rates": json.dumps({name: round(rate, 4) for name, rate in rates.items()}),
        "labels": json.dumps({"speaker": clip.speaker, **clip.labels}),
        "haystack": "\n".join(
            [clip.id, clip.why, clip.speaker, clip.reference, *(text for _, text in clip.hypotheses)]
        ),
    }


def columns(clips: Sequence[Clip]) -> list[tuple[str, list[str]]]:
    """Columns that the clips can be filtered by, with their values: two at least, and not so many that each is one clip."""
    values: dict[str, set[str]] = {}
    for clip in clips:
        for column, label in (("speaker", clip.speaker), *clip.labels.items()):
            values.setdefault(column, set()).update({label} - {""})
    return [(column, sorted(found)) for column, found in values.items() if 2 <= len(found) <= MOST_VALUES]
