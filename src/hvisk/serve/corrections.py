"""Corrected segments become a corpus: a sound file each and a manifest, as `hvisk prepare folder` reads them.

    corpus/metadata.csv            file_name, text, speaker, id, recording, start, end
    corpus/clips/JOB-NUMBER.flac

All jobs share one folder; saving a job again replaces what it had there. The text that the recogniser itself had is not
among it: only what somebody has checked.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import audio, files
from hvisk.audio import SAMPLE_RATE

COLUMNS = ("file_name", "text", "speaker", "id", "recording", "start", "end")
MOST_SECONDS = 30.0  # what training takes
LEAST_SECONDS = 0.1


@dataclass(frozen=True)
class Saved:
    """How many clips a job now has in the corpus, their seconds, and how many segments were left out."""

    clips: int
    seconds: float
    left_out: int


def save(folder: Path, job: str, name: str, sound: Path, segments: Sequence[Mapping[str, Any]]) -> Saved:
    """Write a clip and a row for each segment. Raises AudioError for a sound that cannot be read.

    Segments without a text, shorter than a tenth of a second or longer than 30 s are left out.
    """
    usable = [(n, s) for n, s in enumerate(segments) if s["text"].strip() and _fits(s["end"] - s["start"])]
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows, total = [], 0.0
    for (number, segment), clip in zip(usable, clips(sound, name, [s for _, s in usable]), strict=True):
        if not len(clip):
            continue
        file = f"clips/{job}-{number:05d}.flac"
        files.write_bytes(folder / file, audio.encode(clip))
        total += audio.seconds(clip)
        text = " ".join(segment["text"].split())  # a line feed would end the row
        # The same first name in two recordings need not be the same person.
        speaker = f"{job[:8]} {' '.join(segment['speaker'].split())}".strip()
        rows.append([file, text, speaker, f"{job}-{number:05d}", name, segment["start"], segment["end"]])
    kept = [row for row in _rows(folder) if not row[3].startswith(f"{job}-")]
    _write(folder, [*kept, *rows])
    wanted = {row[0] for row in rows}
    for old in (folder / "clips").glob(f"{job}-*.flac"):
        if f"clips/{old.name}" not in wanted:
            old.unlink()
    return Saved(len(rows), round(total, 3), len(segments) - len(rows))


def clips(sound: Path, name: str, segments: Sequence[Mapping[str, Any]]) -> Iterator[NDArray[np.float32]]:
    """Yield the sound of each segment, which are in order; the recording goes by in blocks."""
    blocks, held, first = audio.blocks(sound, name=name), np.zeros(0, np.float32), 0
    for segment in segments:
        start, end = round(segment["start"] * SAMPLE_RATE), round(segment["end"] * SAMPLE_RATE)
        while first + len(held) < end and (block := next(blocks, None)) is not None:
            skipped = max(0, min(start - first, len(held)))
            held, first = np.concatenate([held[skipped:], block]), first + skipped
        yield held[max(0, start - first) : max(0, end - first)].copy()


def _fits(seconds: float) -> bool:
    return LEAST_SECONDS <= seconds <= MOST_SECONDS


def _rows(folder: Path) -> list[list[str]]:
    manifest = folder / "metadata.csv"
    if not manifest.exists():
        return []
    with manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def _write(folder: Path, rows: Sequence[Sequence[Any]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([COLUMNS, *rows])
    files.write_text(folder / "metadata.csv", buffer.getvalue())
