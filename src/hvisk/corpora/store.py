"""The shards: a folder of utterances that is written once, resumably, and read at random by index.

    corpus/train/
      plan.json          what is being written, first; a resumed run must have the same plan
      00000.arrow        one Arrow IPC file a part: id, text, speaker, seconds, hash, audio {bytes, path}, meta (JSON)
      00000.json         that shard's rows, seconds, filtered counts and SHA-256, after its .arrow
      manifest.json      totals and fingerprint, last: where it exists, the folder is whole

`datasets.load_dataset("arrow", data_files="corpus/train/*.arrow")` opens the same files.

A source plugs in with one function: `write` is given a list of parts (small, picklable descriptions) and `read`, which
turns one part into utterances. A part becomes a shard, in any process, and is never begun again once it is done.
"""

import bisect
import functools
import hashlib
import itertools
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hvisk import audio as sound
from hvisk import files
from hvisk.corpora.shard import SCHEMA, write_shard
from hvisk.corpora.shard import Rejected as Rejected  # what a source needs is found here
from hvisk.corpora.shard import Utterance as Utterance
from hvisk.errors import AudioError, CorpusError
from hvisk.predictions import Meta

FORMAT = "hvisk-shards-2"

Part = TypeVar("Part")


@dataclass(frozen=True)
class Progress:
    """How far a write is: parts done and planned, clips and seconds of audio kept so far, filtered clips by reason."""

    parts: int
    planned: int
    clips: int
    seconds: float
    filtered: dict[str, int]


@dataclass(frozen=True)
class Store:
    """A whole shard folder, memory-mapped; `audio(i)` touches only the bytes of clip i."""

    path: Path
    manifest: dict[str, Any]
    table: pa.Table

    @staticmethod
    def open(path: Path) -> "Store":
        """Open a finished folder; CorpusError where it is missing, unfinished or of another format."""
        if not path.is_dir():
            raise CorpusError(f"There is no corpus at {path}. Make one with: hvisk prepare")
        if not (path / "manifest.json").exists():
            inside = sorted(p.parent.name for p in path.glob("*/manifest.json"))
            if inside:
                raise CorpusError(f"{path} holds the corpora {', '.join(inside)}; name one of them: {path / inside[0]}")
            raise CorpusError(f"{path} holds no finished corpus: manifest.json is missing. Run hvisk prepare again.")
        try:
            manifest = files.read_json(path / "manifest.json")
        except ValueError as error:
            raise CorpusError(
                f"{path / 'manifest.json'} is not JSON ({error}). Make a corpus with: hvisk prepare"
            ) from error
        kind = manifest.get("format") if isinstance(manifest, dict) else None
        if kind == "hvisk-shards-1":
            raise CorpusError(
                f"{path} was prepared by an older hvisk and lacks what is asked for now (the hash of each clip). "
                "Delete it and prepare it again with: hvisk prepare"
            )
        if kind != FORMAT:
            raise CorpusError(
                f"{path} has the format {kind!r}; this hvisk reads {FORMAT!r}. Make one with: hvisk prepare"
            )
        tables = []
        for shard in manifest["shards"]:
            try:
                tables.append(pa.ipc.open_file(pa.memory_map(str(path / shard["file"]))).read_all())
            except (OSError, pa.ArrowInvalid) as error:
                message = f"{path / shard['file']} is missing or broken ({error}). Delete {path} and prepare it again."
                raise CorpusError(message) from error
        return Store(path, manifest, pa.concat_tables(tables) if tables else SCHEMA.empty_table())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the shards' checksums, in order: two stores with the same one hold the same bytes."""
        return str(self.manifest["fingerprint"])

    @functools.cached_property
    def ids(self) -> list[str]:
        return list(self.table["id"].to_pylist())

    @functools.cached_property
    def texts(self) -> list[str]:
        return list(self.table["text"].to_pylist())

    @property
    def restored(self) -> bool:
        """Whether this is what `hvisk restore` made of another corpus."""
        return "text_original" in self.table.column_names

    @property
    def text_style(self) -> str:
        """How the texts are written, as in "cased, punctuated, not verbatim"; "" where nobody has said so."""
        return str(self.manifest.get("about", {}).get("text_style", ""))

    @functools.cached_property
    def speakers(self) -> list[str]:
        return list(self.table["speaker"].to_pylist())

    @functools.cached_property
    def hashes(self) -> list[str]:
        """What is the same for the same samples, whatever their codec and corpus; see `shard.clip_hash`."""
        return list(self.table["hash"].to_pylist())

    @functools.cached_property
    def languages(self) -> list[str]:
        """Each clip's language as its metadata has it, "" where that says nothing."""
        metas = self.table["meta"].to_pylist()
        return [str(json.loads(meta).get("language") or "") if '"language"' in meta else "" for meta in metas]

    @functools.cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Length of each clip in seconds, (clips,) float64."""
        return np.asarray(self.table["seconds"].to_numpy(), dtype=np.float64)

    def sample(self, count: int) -> list[int]:
        """Return the indices of so many clips at random, or of all where there are fewer: always the same ones."""
        order = np.random.default_rng(0).permutation(len(self))
        return sorted(int(i) for i in order[:count])

    def meta(self, index: int) -> Meta:
        return dict(json.loads(self.table["meta"][index].as_py()))

    def encoded(self, index: int) -> bytes:
        """The clip's stored bytes: FLAC or Ogg/Opus, as the manifest's `codec` says."""
        return bytes(self._encoded(index))

    def audio(self, index: int) -> NDArray[np.float32]:
        """The clip as float32, mono, 16 kHz; CorpusError, with its id, where its bytes are damaged."""
        try:
            samples = sound.decode(self._encoded(index))
            loss = "" if len(samples) == round(self.seconds[index] * sound.SAMPLE_RATE) else "It has lost a part."
        except AudioError as error:
            loss = str(error)
        if loss:
            clip = f"The clip '{self.ids[index]}' in {self.path}"
            raise CorpusError(f"{clip} is damaged. {loss} Delete {self.path} and prepare it again.")
        return samples

    def _encoded(self, index: int) -> memoryview:
        # By way of the table this takes several times as long, the longer the more shards there are, and copies.
        starts, sounds = self._sounds
        index = range(len(self))[index]  # -1 is the last clip
        shard = bisect.bisect_right(starts, index) - 1
        return memoryview(sounds[shard][index - starts[shard]].as_buffer())

    @functools.cached_property
    def _sounds(self) -> tuple[list[int], list[pa.BinaryArray]]:
        """Of each piece of the table the index of its first clip, and its sounds."""
        sounds = [pc.struct_field(piece, "bytes") for piece in self.table["audio"].chunks]
        return [0, *itertools.accumulate(map(len, sounds))][:-1], sounds

    def verify(self) -> None:
        """Compare every shard with its checksum; CorpusError names the first that is gone or differs."""
        for shard in self.manifest["shards"]:
            path = self.path / shard["file"]
            if not path.exists() or files.sha256(path) != shard["sha256"]:
                raise CorpusError(
                    f"{path} is gone or has changed since it was written (its SHA-256 differs). "
                    f"Delete {self.path} and prepare it again."
                )


def write(
    out: Path,
    parts: Sequence[Part],
    read: Callable[[Part], Iterable[Utterance | Rejected]],
    *,
    name: str,
    licence: str,
    codec: sound.Codec = "flac",
    about: dict[str, Any] | None = None,
    learnt: bool = True,
    workers: int = 1,
    on_progress: Callable[[Progress], None] | None = None,
) -> Store:
    """Write one shard a part and return the finished store; run again after any interruption, it goes on.

    parts: picklable, with a repr that says all there is to it (the plan's hash is made of it). read: a module-level
    function, called in other processes when `workers` is above 1. about: what else the manifest says of the corpus, such
    as its source's page and revision and the style of its texts. learnt: whether the clips are to be learnt from; those
    that `filters.why_not` then finds no good are left out and counted by reason. CorpusError when `out` holds another plan.
    """
    plan = {"format": FORMAT, "name": name, "codec": codec, "parts": len(parts), "hash": _hash(map(repr, parts))}
    if (out / "plan.json").exists() and files.read_json(out / "plan.json") != plan:
        raise CorpusError(
            f"{out} holds another corpus, or one begun with other settings or by an older hvisk. "
            "Choose another --out, or delete it."
        )
    out.mkdir(parents=True, exist_ok=True)
    for left_behind in out.glob(".*.partial*"):  # by a killed process
        left_behind.unlink()
    files.write_json(out / "plan.json", plan)
    done = {
        i: files.read_json(out / f"{i:05d}.json")
        for i in range(len(parts))
        if (out / f"{i:05d}.json").exists() and (out / f"{i:05d}.arrow").exists()
    }

    def report() -> None:
        if on_progress:
            on_progress(
                Progress(
                    parts=len(done),
                    planned=len(parts),
                    clips=sum(s["rows"] for s in done.values()),
                    seconds=sum(s["seconds"] for s in done.values()),
                    filtered=_filtered(done.values()),
                )
            )

    report()
    missing = [i for i in range(len(parts)) if i not in done]
    if workers <= 1 or len(missing) <= 1:
        for i in missing:
            done[i] = _shard(out, i, parts[i], read, codec, learnt)
            report()
    else:
        # spawn, not fork: the caller may hold threads (a progress display, an audio library); fork copies their locks.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = {pool.submit(_shard, out, i, parts[i], read, codec, learnt): i for i in missing}
            try:
                for future in as_completed(futures):
                    done[futures[future]] = future.result()
                    report()
            except BaseException:
                # Parts that are begun are finished: no other process writes to the folder once this one has returned.
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    shards = [done[i] for i in range(len(parts))]
    _refuse_duplicates(out, shards)
    if not any(s["rows"] for s in shards):
        raise CorpusError(f"No clip of '{name}' could be used. Filtered: {_filtered(shards) or 'nothing was given'}.")
    return finish(out, shards, name=name, licence=licence, about=about or {}, codec=codec)


def finish(
    out: Path, shards: Sequence[dict[str, Any]], *, name: str, licence: str, about: dict[str, Any], codec: str
) -> Store:
    """Write the manifest of shards that are all there, by their records in order, and open them."""
    files.write_json(
        out / "manifest.json",
        {
            "format": FORMAT,
            "name": name,
            "licence": licence,
            "about": about,
            "codec": codec,
            "sample_rate": sound.SAMPLE_RATE,
            "clips": sum(s["rows"] for s in shards),
            "seconds": round(sum(s["seconds"] for s in shards), 3),
            "speakers": len(set().union(*(s["speakers"] for s in shards))),
            "filtered": _filtered(shards),
            "fingerprint": _hash(s["sha256"] for s in shards),
            "shards": [
                {k: s[k] for k in ("file", "rows", "seconds", "sha256", "filtered", "examples")} for s in shards
            ],
        },
    )
    return Store.open(out)


def _shard(
    out: Path,
    index: int,
    part: Part,
    read: Callable[[Part], Iterable[Utterance | Rejected]],
    codec: sound.Codec,
    learnt: bool,
) -> dict[str, Any]:
    return write_shard(out, index, read(part), codec, learnt)


def _refuse_duplicates(out: Path, shards: Sequence[dict[str, Any]]) -> None:
    """An id in two shards would pair one clip's prediction with another's reference: refuse the whole corpus."""
    seen: set[str] = set()
    for shard in shards:
        for identifier in pa.ipc.open_file(pa.memory_map(str(out / shard["file"]))).read_all()["id"].to_pylist():
            if identifier in seen:
                raise CorpusError(f"The id '{identifier}' occurs twice in the source of {out}; ids must be unique.")
            seen.add(identifier)


def _filtered(shards: Iterable[dict[str, Any]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for shard in shards:
        total.update(shard["filtered"])
    return dict(sorted(total.items()))


def _hash(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def statistics(store: Store) -> dict[str, Any]:
    """What a person wants to know of a corpus: clips, hours, speakers, lengths, what was filtered and why."""
    seconds = store.seconds
    return {
        "name": store.manifest["name"],
        "clips": len(store),
        "hours": round(float(seconds.sum()) / 3600, 3),
        "speakers": store.manifest["speakers"],
        "seconds": {q: round(float(np.quantile(seconds, p)), 2) for q, p in (("min", 0), ("median", 0.5), ("max", 1))},
        "words": sum(len(text.split()) for text in store.texts),
        "filtered": store.manifest["filtered"],
        "fingerprint": store.fingerprint,
        "licence": store.manifest["licence"],
    }
