"""One shard: what is in its rows, what is left out of it, and that the datasets library reads it too."""

import hashlib
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import shard, store
from hvisk.corpora.store import Rejected, Store, Utterance
from test_files import alone
from test_store import clip, collect, tone, write


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return write(tmp_path / "made")


def test_opus_keeps_length_and_likeness(tmp_path: Path) -> None:
    written = write(tmp_path, codec="opus")
    assert (written.manifest["codec"], written.encoded(0)[:4]) == ("opus", b"OggS")
    for i, identifier in enumerate(written.ids):
        original = tone(int(identifier[1:]), 0.4)
        assert len(written.audio(i)) == len(original)
        assert np.corrcoef(written.audio(i), original)[0, 1] > 0.95


def test_a_clip_has_the_same_hash_in_every_codec_and_corpus(tmp_path: Path, made: Store) -> None:
    opus = write(tmp_path / "opus", codec="opus")
    elsewhere = collect(tmp_path / "elsewhere", [clip(20, id="x", text="andet", speaker="y", meta={"a": 1}), clip(5)])
    assert (opus.ids, opus.hashes) == (made.ids, made.hashes)
    assert opus.fingerprint != made.fingerprint
    assert dict(zip(elsewhere.ids, elsewhere.hashes, strict=True))["x"] == made.hashes[made.ids.index("c20")]
    assert len({*made.hashes, *elsewhere.hashes}) == 9
    pcm = np.rint(tone(0, 0.4) * 32768).astype("<i2").tobytes()
    assert made.hashes[made.ids.index("c0")] == hashlib.sha256(pcm).hexdigest()[:16]


def test_each_clip_has_its_own_language(tmp_path: Path) -> None:
    metas: list[Any] = [{"language": "nb"}, {}, {"a": '"language"'}, {"language": None}, {"x": 1, "language": "da"}]
    written = collect(tmp_path, [clip(n, meta=meta) for n, meta in enumerate(metas)])
    assert dict(zip(written.ids, written.languages, strict=True)) == {
        "c0": "nb", "c1": "", "c2": "", "c3": "", "c4": "da"
    }  # fmt: skip


def test_clips_are_filtered_counted_by_reason_and_named(tmp_path: Path) -> None:
    hole = tone(0, 0.5)
    hole[7] = np.nan
    clips: list[Utterance | Rejected] = [clip(n, id=f"short{n}", seconds=0.29) for n in range(7)]
    clips += [clip(id="none", seconds=0), clip(id="long", seconds=30.01), clip(id="blank", text=" \n\u2003")]
    clips += [clip(id="nan", audio=hole), clip(id="stereo", audio=np.zeros((9000, 2), np.float32))]
    clips += [clip(id="good"), clip(id="just", seconds=0.3), clip(id="full", text="tal " * 9, seconds=30.0)]
    clips += [Rejected("lost", "file is gone"), Rejected("odd", "file is gone")]
    written = collect(tmp_path, clips)
    assert sorted(written.ids) == ["full", "good", "just"]
    assert written.manifest["filtered"] == {
        "broken audio": 2,
        "file is gone": 2,
        "no text": 1,
        "too long": 1,
        "too short": 8,
    }
    (only,) = written.manifest["shards"]
    assert only["filtered"] == written.manifest["filtered"]
    assert only["examples"] == {
        "broken audio": ["nan", "stereo"],
        "file is gone": ["lost", "odd"],
        "no text": ["blank"],
        "too long": ["long"],
        "too short": [f"short{n}" for n in range(shard.EXAMPLES)],
    }


def test_speakers_are_mixed_in_a_shard_and_each_shard_in_its_own_order(tmp_path: Path) -> None:
    clips = [clip(n, speaker="AB"[n // 20]) for n in range(40)]
    written = store.write(
        tmp_path, [0, 1], lambda part: [replace(c, id=f"{part}-{c.id}") for c in clips], name="x", licence="CC0"
    )
    orders = [[identifier.split("-")[1] for identifier in written.ids[half]] for half in (slice(40), slice(40, 80))]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(one.id for one in clips)
    assert orders[0] != orders[1]
    for half in (written.speakers[:40], written.speakers[40:]):
        assert sum(a != b for a, b in itertools.pairwise(half)) >= 12  # about 20 by chance, 1 in the source's order


def opened_by_datasets(out: Path) -> list[dict[str, Any]]:
    """The rows as the datasets library has them."""
    import datasets

    data = datasets.load_dataset("arrow", data_files=str(out / "*.arrow"), split="train")
    assert data.features["audio"] == datasets.Audio(sampling_rate=SAMPLE_RATE)
    rows = data.cast_column("audio", datasets.Audio(decode=False))  # decoding needs torchcodec
    return [{**row, "audio": [row["audio"]["path"], row["audio"]["bytes"].hex()]} for row in rows]


def test_the_datasets_library_opens_the_shards(tmp_path: Path, made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expected = [
        {
            "id": made.ids[i],
            "text": "blåbær",
            "speaker": made.speakers[i],
            "seconds": 0.4,
            "hash": made.hashes[i],
            "audio": [f"{made.ids[i]}.flac", made.encoded(i).hex()],
            "meta": json.dumps(made.meta(i)),
        }
        for i in range(len(made))
    ]
    assert alone(opened_by_datasets, made.path) == expected
