"""The page of a labelling: what was accepted and why the rest was not, with clips of each reason to listen to."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvisk import audio, files
from hvisk.label import block
from hvisk.label.merge import STAGES, Judged
from hvisk.report import listen, templates
from hvisk.report.listen import Clip

CLIPS = 8  # of each stage, and of each reason


def examples(folder: Path, judged: Sequence[Judged], teachers: Sequence[str]) -> list[Clip]:
    """Return clips of each outcome, always the same ones, with their sound as Ogg/Opus: rejected ones first."""
    outcomes: dict[str, list[Judged]] = {}
    for one in judged:
        outcomes.setdefault(_outcome(one), []).append(one)
    ordered = sorted(outcomes, key=lambda name: (name.split(":")[0] in STAGES, -len(outcomes[name]), name))
    found = []
    for name in ordered:
        clips = outcomes[name]
        chosen = random.Random(0).sample(range(len(clips)), min(CLIPS, len(clips)))
        found += [_clip(folder, clips[i], name, teachers) for i in sorted(chosen)]
    return found


def write(path: Path, summary: Mapping[str, Any], clips: Sequence[Clip]) -> None:
    """Write the page: one file that needs nothing else."""
    html = templates.page(
        "labels.html.jinja",
        styles=("page.css", "evaluation.css"),
        scripts=("clips.js",),
        summary=summary,
        clips=[listen.shown(clip) for clip in clips],
        systems=list(summary["teachers"]),
        columns=listen.columns(clips),
    )
    files.write_text(path, html)


def _outcome(one: Judged) -> str:
    return one.label.reason or (f"{one.label.stage}: silence" if one.row["silent"] else one.label.stage)


def _clip(folder: Path, one: Judged, outcome: str, teachers: Sequence[str]) -> Clip:
    """What the teachers wrote, held against the label, or the first one's text; in silence, against nothing."""
    row = one.row
    sound = block.read(folder / f"{one.file}.arrow", ["sound"])["sound"][one.place].as_py()
    said = "" if row["silent"] else one.label.text or row["texts"][0]
    return Clip(
        id=row["id"],
        why="example",
        speaker=row["recording"],
        seconds=row["end"] - row["start"],
        reference=said,
        hypotheses=list(zip(teachers, row["texts"], strict=True)),
        labels={"outcome": outcome},
        audio=audio.encode(audio.decode(sound), "opus"),
        mime="audio/ogg",
    )
