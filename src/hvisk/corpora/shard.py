"""One shard: utterances in, one Arrow IPC file and the record of it out.

    columns  id, text, speaker, seconds, hash, audio {bytes, path}, meta (JSON)
    record   rows, seconds, speakers, what was left out and why, SHA-256 of the file

The hash is that of the clip's samples before any codec, so that the same clip is known again in another corpus.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hvisk import audio as sound
from hvisk import files
from hvisk.corpora import filters
from hvisk.predictions import Meta

EXAMPLES = 5  # ids of left out clips kept by name for each reason

_STRINGS = ("id", "text", "speaker", "hash", "meta")
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "text": pa.string(),
        "speaker": pa.string(),
        "seconds": pa.float64(),
        "hash": pa.string(),
        "audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "meta": pa.string(),
    },
    metadata={
        "huggingface": json.dumps(
            {
                "info": {
                    "features": {
                        **{name: {"dtype": "string", "_type": "Value"} for name in _STRINGS},
                        "seconds": {"dtype": "float64", "_type": "Value"},
                        "audio": {"sampling_rate": sound.SAMPLE_RATE, "_type": "Audio"},
                    }
                }
            }
        )
    },
)


@dataclass(frozen=True)
class Utterance:
    """One clip with its text. audio: float32, mono, 16 kHz. meta: further columns, such as gender, age or dialect."""

    id: str
    text: str
    speaker: str
    audio: NDArray[np.float32]
    meta: Meta


@dataclass(frozen=True)
class Rejected:
    """A clip that its source could not turn into an utterance, and why, in a few words."""

    id: str
    reason: str


def clip_hash(audio: NDArray[np.float32]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the samples as 16-bit PCM, little-endian."""
    return hashlib.sha256(sound.pcm16(audio).astype("<i2").tobytes()).hexdigest()[:16]


def write_shard(
    out: Path, index: int, clips: Iterable[Utterance | Rejected], codec: sound.Codec, learnt: bool = True
) -> dict[str, Any]:
    """Write `out`/INDEX.arrow, then INDEX.json, and return what is in the latter: the record of the shard.

    learnt: whether the clips are to be learnt from, and so what `filters.why_not` leaves out.
    """
    rows: list[dict[str, Any]] = []
    filtered: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for row in _rows(clips, codec, learnt):
        if isinstance(row, Rejected):
            filtered[row.reason] += 1
            if len(examples.setdefault(row.reason, [])) < EXAMPLES:
                examples[row.reason].append(row.id)
        else:
            rows.append(row)
    # Sources come ordered by speaker; readers that go through a shard in order should still meet many of them.
    order = np.random.default_rng(index).permutation(len(rows))
    with (
        files.atomic_path(out / f"{index:05d}.arrow") as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        writer.write_batch(pa.RecordBatch.from_pylist([rows[i] for i in order], schema=SCHEMA))
    record = {
        "file": f"{index:05d}.arrow",
        "rows": len(rows),
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        "sha256": files.sha256(out / f"{index:05d}.arrow"),
        "speakers": sorted({row["speaker"] for row in rows}),
        "filtered": dict(filtered),
        "examples": examples,
    }
    files.write_json(out / f"{index:05d}.json", record)
    return record


def _rows(
    clips: Iterable[Utterance | Rejected], codec: sound.Codec, learnt: bool
) -> Iterator[dict[str, Any] | Rejected]:
    for clip in clips:
        if isinstance(clip, Rejected):
            yield clip
        elif reason := filters.why_not(clip.text, clip.audio, learnt=learnt):
            yield Rejected(clip.id, reason)
        else:
            yield {
                "id": clip.id,
                "text": " ".join(clip.text.split()),
                "speaker": clip.speaker,
                "seconds": len(clip.audio) / sound.SAMPLE_RATE,
                "hash": clip_hash(clip.audio),
                "audio": {"bytes": sound.encode(clip.audio, codec), "path": f"{clip.id}.{codec}"},
                "meta": json.dumps(clip.meta, ensure_ascii=False),
            }
