"""Labelled blocks -> corpora: one of each stage, and what was rejected, with its reason.

    work             a block a file, see `block`: kept, so that other limits or more audio ask no teacher again
    clean, wide      corpora; a clip is in one of them, so that both together are all that was accepted
    rejected.jsonl   the other clips: id, reason, what the teachers wrote
    labels.json      counts, hours and limits

Blocks are taken in order, and nothing else decides what is written: the same blocks give the same bytes.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hvisk import audio as sound
from hvisk import files
from hvisk.corpora import store
from hvisk.corpora.store import Progress, Rejected, Utterance
from hvisk.errors import CorpusError
from hvisk.label import agree, block
from hvisk.label.agree import Label, Limits
from hvisk.predictions import Meta

STAGES = ("clean", "wide")
CLIPS_PER_SHARD = 500
MARKED = 0.9  # share of a corpus's texts with marks or capitals from which on it is said to be cased and punctuated

_COLUMNS = [name for name in block.SCHEMA.names if name != "sound"]


@dataclass(frozen=True)
class Pick:
    """A clip that is accepted: where it lies, and its row in the corpus but for the sound."""

    file: str
    row: int
    id: str
    text: str
    speaker: str
    meta: tuple[tuple[str, str | int | float | None], ...]


@dataclass(frozen=True)
class Part:
    """Clips that become one shard. folder: where the blocks lie, which is no part of what the clips are."""

    picks: tuple[Pick, ...]
    folder: Path = field(repr=False)


@dataclass(frozen=True)
class Judged:
    """A clip of a block with its label. row: as `block.SCHEMA` has it, without the sound."""

    file: str
    place: int
    row: dict[str, Any]
    label: Label


def judge(folder: Path, keys: Sequence[str], limits: Limits, language: str) -> tuple[list[Judged], dict[str, str], int]:
    """Return the labels of all clips in the blocks, in order, what is wrong with broken recordings, by name, and how many
    recordings there were.
    """
    found: list[tuple[str, int, dict[str, Any]]] = []
    broken: dict[str, str] = {}
    recordings = 0
    for key in keys:
        table = block.read(folder / f"{key}.arrow", _COLUMNS)
        recordings += int(table.schema.metadata[block.RECORDINGS])
        for place, row in enumerate(table.to_pylist()):
            if row["broken"]:
                broken[row["recording"]] = row["broken"]
            else:
                found.append((key, place, row))
    given = agree.labels((row for _, _, row in found), limits, language)
    return [Judged(*where, label) for where, label in zip(found, given, strict=True)], broken, recordings


def write(
    out: Path,
    judged: Sequence[Judged],
    *,
    licence: str,
    codec: sound.Codec,
    about: dict[str, Any],
    language: str,
    workers: int,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> dict[str, store.Store]:
    """Write the corpora of the stages that have any clips; an earlier run's are replaced where they would differ.

    about: of the labelling, for the manifests. CorpusError where nothing was accepted, and where `out` holds a corpus
    that was not written here.
    """
    parts = {stage: _parts(out / "work", judged, stage, language) for stage in STAGES}
    parts = {stage: planned for stage, planned in parts.items() if planned}
    if not parts:
        raise CorpusError("No clip was accepted; see rejected.jsonl and report.html for the reasons.")
    styles = {stage: _style(judged, stage) for stage in parts}
    plan = {"corpora": hashlib.sha256(repr([codec, licence, about, styles, parts]).encode()).hexdigest()}
    kept = out / "corpora.json"  # written before the corpora that it tells of: whoever finds another begins them anew
    if not kept.exists() and any((out / stage).exists() for stage in STAGES):
        raise CorpusError(f"{out} holds a corpus that hvisk label did not write. Choose another --out.")
    if not kept.exists() or files.read_json(kept) != plan:
        for stage in STAGES:
            shutil.rmtree(out / stage, ignore_errors=True)
        files.write_json(kept, plan)
    written = {}
    for stage, planned in parts.items():
        show = (lambda progress, stage=stage: on_progress(stage, progress)) if on_progress else None
        written[stage] = store.write(
            out / stage, planned, read, name=f"pseudo-labels {stage}", licence=licence, codec=codec,
            about={**about, "text_style": styles[stage]}, workers=workers, on_progress=show,
        )  # fmt: skip
    return written


def read(part: Part) -> Iterator[Utterance | Rejected]:
    """Read the clips of a part out of their blocks."""
    tables: dict[str, Any] = {}
    for pick in part.picks:
        if pick.file not in tables:
            tables = {pick.file: block.read(part.folder / f"{pick.file}.arrow", ["sound"])["sound"]}
        samples = sound.decode(tables[pick.file][pick.row].as_py())
        yield Utterance(pick.id, pick.text, pick.speaker, samples, dict(pick.meta), silent=not pick.text)


def rejections(judged: Sequence[Judged]) -> str:
    """Return the lines of rejected.jsonl."""
    return "".join(
        json.dumps(
            {
                "id": one.row["id"],
                "reason": one.label.reason,
                "recording": one.row["recording"],
                "start": one.row["start"],
                "end": one.row["end"],
                "texts": one.row["texts"],
                "notes": [note for note in one.row["notes"] if note],
                **{name: value for name, value in _differences(one.label).items() if value is not None},
            },
            ensure_ascii=False,
        )
        + "\n"
        for one in judged
        if not one.label.stage
    )


def summary(judged: Sequence[Judged], broken: Mapping[str, str], limits: Limits) -> dict[str, Any]:
    """Return what labels.json says: clips and seconds by stage, of silence, and by reason of rejection, most first."""

    def count(chosen: Sequence[Judged]) -> dict[str, float]:
        seconds = sum(one.row["end"] - one.row["start"] for one in chosen)
        return {"clips": len(chosen), "seconds": round(seconds, 3)}

    reasons: dict[str, list[Judged]] = {}
    for one in judged:
        if one.label.reason:
            reasons.setdefault(one.label.reason, []).append(one)
    ordered = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    accepted = [one for one in judged if one.label.stage]
    return {
        "heard": count(judged),
        "accepted": count(accepted),
        "stages": {stage: count([one for one in accepted if one.label.stage == stage]) for stage in STAGES},
        "silence": count([one for one in accepted if one.row["silent"]]),
        "rejected": {reason: count(chosen) for reason, chosen in ordered},
        "marks": {
            marks: sum(one.label.marks == marks for one in accepted) for marks in ("own", "exact", "repaired", "none")
        },
        "broken": dict(sorted(broken.items())),
        "limits": asdict(limits),
    }


def _parts(folder: Path, judged: Sequence[Judged], stage: str, language: str) -> list[Part]:
    picks = [_pick(one, language) for one in judged if one.label.stage == stage]
    return [Part(tuple(picks[at : at + CLIPS_PER_SHARD]), folder) for at in range(0, len(picks), CLIPS_PER_SHARD)]


def _pick(one: Judged, language: str) -> Pick:
    row, label = one.row, one.label
    meta: Meta = {
        "language": language,
        "stage": label.stage,
        "recording": row["recording"],
        "start": row["start"],
        "end": row["end"],
        "marks": label.marks,
        **_differences(label),
        **{f"teacher_{number}": written for number, written in enumerate(row["texts"], start=1)},
    }
    return Pick(one.file, one.place, row["id"], label.text, row["speaker"], tuple(meta.items()))


def _differences(label: Label) -> dict[str, float | None]:
    return {"cer": label.cer, "cer_head": label.head, "cer_tail": label.tail}


def _style(judged: Sequence[Judged], stage: str) -> str:
    marks = [one.label.marks for one in judged if one.label.stage == stage and one.label.text]
    marked = sum(mark != "none" for mark in marks)
    return (
        "cased, punctuated, verbatim?" if marks and marked >= MARKED * len(marks) else "cased?, punctuated?, verbatim?"
    )
