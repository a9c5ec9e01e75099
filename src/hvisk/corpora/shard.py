"""One shard: utterances in, one Arrow IPC file and the record of it out.

    columns  id, text, speaker, seconds, hash, audio {bytes, path}, meta (JSON); where texts were restored, also
             text_original and restored_by
    record   rows, seconds, speakers, what was left out and why, SHA-256 of the file

The hash is that of the clip's samples before any codec, so that the same clip is known again in another corpus.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
ADDED = ("text_original", "restored_by")  # by `retext`


def _schema(added: tuple[str, ...] = ()) -> pa.Schema:
    features = {
        **{name: {"dtype": "string", "_type": "Value"} for name in (*_STRINGS, *added)},
        "seconds": {"dtype": "float64", "_type": "Value"},
        "audio": {"sampling_rate": sound.SAMPLE_RATE, "_type": "Audio"},
    }
    return pa.schema(
        {
            "id": pa.string(),
            "text": pa.string(),
            "speaker": pa.string(),
            "seconds": pa.float64(),
            "hash": pa.string(),
            "audio": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "meta": pa.string(),
            **{name: pa.string() for name in added},
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


SCHEMA = _schema()


@dataclass(frozen=True)
class Utterance:
    """One clip with its text. audio: float32, mono, 16 kHz. meta: further columns, such as gender, age or dialect.

    silent: nobody speaks in it, and its text is empty on purpose.
    """

    id: str
    text: str
    speaker: str
    audio: NDArray[np.float32]
    meta: Meta
    silent: bool = False


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
    table = pa.Table.from_batches([pa.RecordBatch.from_pylist([rows[i] for i in order], schema=SCHEMA)])
    return _write(out, index, table, dict(filtered), examples)


def retext(
    out: Path, index: int, source: pa.Table, texts: Sequence[tuple[str, str]], entry: dict[str, Any], stamp: str
) -> dict[str, Any]:
    """Write a shard again with other texts, its sounds as they are, and return its record.

    source: the rows that are taken. texts: of each its text and who made it, for the columns text and restored_by; the text
    that it had goes to text_original. entry: the record of the source's shard, for what was left out of it. stamp: what the
    record says the texts are known again by.
    """
    columns = {name: source[name] for name in SCHEMA.names}
    columns["text"] = pa.array([text for text, _ in texts], pa.string())
    columns |= {"text_original": source["text"], "restored_by": pa.array([by for _, by in texts], pa.string())}
    table = pa.table(columns, schema=_schema(ADDED))
    return _write(out, index, table, entry["filtered"], entry["examples"], texts=stamp)


def _write(
    out: Path, index: int, table: pa.Table, filtered: dict[str, int], examples: dict[str, list[str]], **more: str
) -> dict[str, Any]:
    with (
        files.atomic_path(out / f"{index:05d}.arrow") as path,
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    record = {
        "file": f"{index:05d}.arrow",
        "rows": table.num_rows,
        "seconds": round(sum(table["seconds"].to_pylist()), 3),
        "sha256": files.sha256(out / f"{index:05d}.arrow"),
        "speakers": sorted(set(table["speaker"].to_pylist())),
        "filtered": filtered,
        "examples": examples,
        **more,
    }
    files.write_json(out / f"{index:05d}.json", record)
    return record


def _rows(
    clips: Iterable[Utterance | Rejected], codec: sound.Codec, learnt: bool
) -> Iterator[dict[str, Any] | Rejected]:
    for clip in clips:
        if isinstance(clip, Rejected):
            yield clip
        elif reason := filters.why_not(clip.text, clip.audio, learnt=learnt, silent=clip.silent):
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
