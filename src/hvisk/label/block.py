"""A block of recordings -> the bytes of one Arrow file: every clip, its sound, and what each teacher wrote.

Blocks are what work is divided into: labelled anywhere, in any order, any number of times, one gives the same bytes. What
is accepted is not decided here but in `agree`, so that other limits need no teacher.
"""

import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from hvisk import audio, evaluate, models
from hvisk.clips import Clip as Asked
from hvisk.corpora import filters, hub
from hvisk.corpora.folder import UNKNOWN_SPEAKER
from hvisk.corpora.shard import Rejected, clip_hash
from hvisk.errors import HviskError
from hvisk.label.cut import Broken, Clip, Recording, clips, of_file
from hvisk.systems.cache import Answer, Cache
from hvisk.systems.choose import open_system
from hvisk.systems.system import System

FORMAT = "hvisk-label-1"
TOGETHER = 300.0  # seconds of clips that are heard at once
RECORDINGS = b"recordings"  # in a file's metadata: how many there were
MISSING = "not in the file of predictions"

SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "recording": pa.string(),
        "speaker": pa.string(),
        "start": pa.float64(),
        "end": pa.float64(),
        "silent": pa.bool_(),
        "texts": pa.list_(pa.string()),  # one a teacher, as it wrote it
        "notes": pa.list_(pa.string()),  # why a teacher has no text, "" where it has one
        "unfit": pa.string(),  # what `filters.why_not` says of the sound with the first teacher's text
        "hash": pa.string(),
        "sound": pa.binary(),  # FLAC; none of a broken recording
        "broken": pa.string(),  # of a recording that is
    }
)


@dataclass(frozen=True)
class Block:
    """Recordings that are labelled together: sound files, or a stretch of a dataset on the Hub."""

    recordings: tuple[Recording, ...] = ()
    part: hub.Part | None = None


@dataclass(frozen=True)
class Work:
    """How blocks are labelled. teachers: their names as `open_system` takes them, the one whose words count first.

    identities: what `identity` says of each; a machine on which a teacher is another one refuses the work.
    """

    teachers: tuple[str, ...]
    identities: tuple[str, ...]
    language: str
    beam_size: int
    threads: int
    target_seconds: float
    silence: float

    def key(self, block: Block) -> str:
        """Return what the block's file is called: all that its bytes depend on. Of the recordings, their content."""
        content = [repr(block.part), *([recording.name, recording.sha256] for recording in block.recordings)]
        settings = [self.identities, self.language, self.beam_size, self.target_seconds, self.silence]
        return hashlib.sha256(json.dumps([FORMAT, settings, content]).encode()).hexdigest()[:24]


def open_teacher(name: str, work: Work) -> System:
    """Open a teacher by its name."""
    return open_system(name, language=work.language, beam_size=work.beam_size, threads=work.threads)


def identity(system: System) -> str:
    """Return all that decides a system's texts."""
    return json.dumps([system.settings, system.software], sort_keys=True, ensure_ascii=False)


class Labeller:
    """Teachers that are loaded, and the work that they do: what a process of a cluster makes once."""

    def __init__(self, work: Work, teachers: Sequence[System] | None = None) -> None:
        """Open the teachers, or take those that are open. HviskError where one is not what the work began with."""
        self.work = work
        self.teachers = list(teachers or (open_teacher(name, work) for name in work.teachers))
        for system, expected in zip(self.teachers, work.identities, strict=True):
            if identity(system) != expected:
                raise HviskError(
                    f"The teacher {system.name} is not the same on every machine: here it is {identity(system)}, the work "
                    f"began with {expected}. Install the same hvisk and the same model everywhere."
                )
        cache = models.cache_directory() / "evaluations.sqlite"
        self.proven: set[int] = set()  # teachers that have written something
        self.recordings = 0
        self.caches = [Cache.of(cache, system.settings, system.software) for system in self.teachers]

    def __call__(self, block: Block) -> bytes:
        """Label a block. Unavailable and MemoryError pass; HviskError where a teacher fails on all that it hears first."""
        rows: list[dict[str, Any]] = []
        self.recordings = 0
        for some in _together(self._clips(block)):
            heard = [item for item in some if isinstance(item, Clip)]
            answers = [self._hear(number, heard) for number in range(len(self.teachers))]
            told = dict(zip((clip.id for clip in heard), zip(*answers, strict=True), strict=True)) if heard else {}
            rows += [_row(item, told[item.id]) if isinstance(item, Clip) else _broken(item) for item in some]
        sink = io.BytesIO()
        table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({RECORDINGS: str(self.recordings)}))
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()

    def _clips(self, block: Block) -> Iterator[Clip | Broken]:
        how = {"target_seconds": self.work.target_seconds, "silence": self.work.silence}
        for recording in block.recordings:
            self.recordings += 1
            yield from of_file(recording, **how)
        part = block.part
        if part is None:
            return
        for found in hub.read(part):
            self.recordings += 1
            name = f"{part.repo}/{found.id}".replace("/", "-")
            if isinstance(found, Rejected):
                yield Broken(name, f"{name}: {found.reason}")
                continue
            speaker = name if found.speaker == UNKNOWN_SPEAKER else f"{part.repo} {found.speaker}"
            yield from clips(name, speaker, [found.audio], **how)

    def _hear(self, number: int, heard: Sequence[Clip]) -> list[tuple[str, str]]:
        """Text and note of each clip from one teacher."""
        system, memory = self.teachers[number], self.caches[number]
        if system.kind == "predictions":
            texts = [system.known.get(clip.id) for clip in heard]
            return [(p.hypothesis, p.note) if p else ("", MISSING) for p in texts]
        found: dict[int, tuple[str, str]] = {}
        for batch in _batches(heard, system.batch_seconds):
            asked = [Asked(i, heard[i].audio, memory.key(heard[i].audio) if memory else "") for i in batch]
            known = memory.find([clip.key for clip in asked]) if memory else {}
            # All of a batch or none of it: what a clip is heard together with is then the same in every run.
            if known and all(clip.key in known for clip in asked):
                found.update({clip.index: (known[clip.key].text, "") for clip in asked})
                continue
            answers = evaluate.ask(system.recognise, asked)
            notes = [note for _, _, note in answers]
            if number not in self.proven and len(asked) > 1:  # one clip proves nothing against a teacher
                evaluate.refuse_if_all_failed(notes, planned=len(asked))
            if not all(notes):
                self.proven.add(number)
            found.update({clip.index: (text, note) for clip, (text, _, note) in zip(asked, answers, strict=True)})
            if memory:  # not warm: an evaluation that remembers these texts measures its speed elsewhere
                memory.keep(
                    (clip.key, Answer(text, took, False, ""))
                    for clip, (text, took, note) in zip(asked, answers, strict=True)
                    if not note
                )
        return [found[i] for i in range(len(heard))]


def _together(found: Iterable[Clip | Broken]) -> Iterator[list[Clip | Broken]]:
    waiting: list[Clip | Broken] = []
    seconds = 0.0
    for item in found:
        waiting.append(item)
        seconds += audio.seconds(item.audio) if isinstance(item, Clip) else 0.0
        if seconds >= TOGETHER:
            yield waiting
            waiting, seconds = [], 0.0
    if waiting:
        yield waiting


def _batches(heard: Sequence[Clip], most: float) -> list[list[int]]:
    """Clips of like length together, by their places: about `most` seconds, or one clip."""
    order = sorted(range(len(heard)), key=lambda i: len(heard[i].audio))
    ends = itertools.accumulate(audio.seconds(heard[i].audio) for i in order)
    grouped = itertools.groupby(zip(order, ends, strict=True), key=lambda pair: int(pair[1] // most))
    return [[i for i, _ in group] for _, group in grouped]


def _row(clip: Clip, answers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    texts = [" ".join(text.split()) for text, _ in answers]
    return {
        "id": clip.id,
        "recording": clip.recording,
        "speaker": clip.speaker,
        "start": clip.start,
        "end": clip.end,
        "silent": clip.silent,
        "texts": texts,
        "notes": [note for _, note in answers],
        "unfit": filters.why_not("" if clip.silent else texts[0], clip.audio, silent=clip.silent),
        "hash": clip_hash(clip.audio),
        "sound": audio.encode(clip.audio),
        "broken": "",
    }


def _broken(item: Broken) -> dict[str, Any]:
    empty = {
        "start": 0.0,
        "end": 0.0,
        "silent": False,
        "texts": [],
        "notes": [],
        "unfit": "",
        "hash": "",
        "sound": None,
    }
    return {"id": item.recording, "recording": item.recording, "speaker": "", **empty, "broken": item.reason}


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Open a block's file, memory-mapped. HviskError where it is not whole, which no kill can bring about."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise HviskError(f"{path} is missing or broken ({error}). Delete it and run the same command again.") from error
    return table.select(list(columns)) if columns else table
