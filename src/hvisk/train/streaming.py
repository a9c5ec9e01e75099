"""Training straight from the Hub, for a first taste of a corpus that nobody has prepared: only what is heard is fetched.

    Source -> hub.plan (one commit) -> files in random order, row group by row group -> Chunk -> plan, load as ever -> Batch

A chunk is an hour or so of clips in memory. Its first row group is all that resuming needs, so a resumed run fetches the
chunk in hand again and nothing before it. Each of several processes reads the whole stream and takes its own batches.
"""

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import files
from hvisk.audio import SAMPLE_RATE, pcm16
from hvisk.corpora import filters, hub, sources
from hvisk.corpora.hub import Part
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import CorpusError
from hvisk.tokens import Tokens
from hvisk.train import batches
from hvisk.train.batches import Batch, Position
from hvisk.train.plan import plan
from hvisk.train.recipe import STREAM, Recipe

NAME = "streams.json"  # in the run's directory: the commit that each stream is read at, for as long as the run lasts
FILES_TOGETHER = 4  # read in turns: one file may hold one speaker
CHUNK_SECONDS = 3600.0  # of speech, 115 MB as 16-bit samples; longer where a batch is
BATCHES_A_CHUNK = 10  # at least

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Stream:
    """A corpus that is heard as it comes. parts: its training split's files at one commit."""

    name: str
    licence: str
    commit: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Chunk:
    """Clips in memory, for `batches` what a Store is. samples: 16-bit, mono, 16 kHz. left_out: ids by reason."""

    ids: list[str]
    texts: list[str]
    speakers: list[str]
    languages: list[str]
    samples: list[NDArray[np.int16]]
    left_out: dict[str, list[str]]
    text_style: str = ""  # of several corpora: each text tells by itself

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Length of each clip, (clips,) float64."""
        return np.array([len(s) / SAMPLE_RATE for s in self.samples], dtype=np.float64)

    def audio(self, index: int) -> Audio:
        """The clip as float32, mono, 16 kHz."""
        return self.samples[index].astype(np.float32) / np.float32(2**15)


def open_streams(recipe: Recipe) -> list[Stream]:
    """Find the recipe's streams on the Hub, at the commits that the run was begun with, or the newest for a new run.

    Raises CorpusError for an unknown name, and for what cannot be reached or read.
    """
    path = Path(recipe.out) / NAME
    begun: dict[str, Any] = files.read_json(path) if path.exists() else {}
    found = []
    for entry in recipe.streams:
        name = entry.removeprefix(STREAM)
        source = sources.find(name)
        pin = begun.get(name, {})
        planned = hub.plan(source, splits=("train",), branch=pin.get("branch", ""), commit=pin.get("commit", ""))
        begun[name] = {"branch": planned.branch, "commit": planned.commit}
        found.append(Stream(name, source.licence, planned.commit, tuple(planned.parts["train"])))
    files.write_json(path, begun)
    return found


def stream(
    streams: Sequence[Stream], tokens: Tokens, recipe: Recipe, start: Position, rank: int = 0, size: int = 1
) -> Generator[Batch, None, None]:
    """Yield batches without end from `start` on, as `batches.stream` does of prepared corpora.

    The next chunk is fetched while this one is learnt. A batch's `broken` names what its chunk had to leave out. Raises
    CorpusError when the Hub cannot be reached after several tries; what was learnt is saved by the loop.
    """
    with (
        ThreadPoolExecutor(1, thread_name_prefix="hvisk-chunk") as fetcher,
        ThreadPoolExecutor(recipe.loader_threads, thread_name_prefix="hvisk-loader") as pool,
    ):
        chunks = _chunks(streams, recipe, start)
        coming = fetcher.submit(next, chunks)
        skip, idle = start.batch, 0
        try:
            while True:
                chunk, here, after = coming.result()
                coming = fetcher.submit(next, chunks)
                served = 0
                for batch in _batches(chunk, tokens, recipe, here, after, skip, rank, size, pool):
                    served += 1
                    yield batch
                idle = 0 if served or skip else idle + (after.epoch > here.epoch)
                skip = 0
                if idle > 1:
                    raise CorpusError(
                        f"{', '.join(recipe.streams)}: an epoch holds less than a step of {recipe.batch_seconds:.0f} s for "
                        f"{size} processes. Make batch_seconds smaller, or prepare the corpus: hvisk prepare."
                    )
        finally:
            coming.cancel()


def _batches(
    chunk: Chunk,
    tokens: Tokens,
    recipe: Recipe,
    here: Position,
    after: Position,
    skip: int,
    rank: int,
    size: int,
    pool: ThreadPoolExecutor,
) -> Iterator[Batch]:
    selection = batches.choose([chunk], tokens, recipe)
    if not len(selection.clips[0]):
        return
    number = (here.epoch << 40) + (here.files << 20) + here.groups  # of the chunk: what is random in it follows from it
    planned = plan(batches.learnable([chunk], selection, recipe), number, recipe, size)
    steps = len(planned) // size
    ahead: deque[Future[Batch]] = deque()
    left_out = tuple(
        f"{reason}: {i}" for told in (chunk.left_out, selection.left_out) for reason, ids in told.items() for i in ids
    )
    try:
        for step in range(skip, steps):
            following = after if step + 1 == steps else Position(here.epoch, step + 1, here.files, here.groups)
            place = Position(number, step * size + rank)
            ahead.append(
                pool.submit(
                    batches.load, [chunk], selection, tokens, recipe, planned[place.batch], place, following,
                    left_out if step == 0 and rank == 0 else (),
                )
            )  # fmt: skip
            if len(ahead) > 2 * recipe.loader_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def _chunks(streams: Sequence[Stream], recipe: Recipe, start: Position) -> Iterator[tuple[Chunk, Position, Position]]:
    """Chunks without end, each with the position of its first batch and that of the next chunk's."""
    parts = [part for one in streams for part in one.parts]
    wanted = max(CHUNK_SECONDS, BATCHES_A_CHUNK * recipe.batch_seconds)
    here = Position(start.epoch, 0, start.files, start.groups)
    while True:
        waiting: list[Utterance | Rejected] = []
        seconds = 0.0
        for part, after in _groups(parts, recipe, here):
            for clip in hub.read(part):
                waiting.append(clip)
                seconds += 0.0 if isinstance(clip, Rejected) else len(clip.audio) / SAMPLE_RATE
            if seconds >= wanted or after.epoch > here.epoch:
                yield _chunk(waiting, recipe), here, after
                waiting, seconds, here = [], 0.0, after


def _groups(parts: Sequence[Part], recipe: Recipe, start: Position) -> Iterator[tuple[Part, Position]]:
    """The row groups of one epoch from `start` on, each with the position behind it."""
    order = np.random.default_rng([recipe.seed, start.epoch, 2]).permutation(len(parts))
    skip = start.groups
    for first in range(start.files, len(order), FILES_TOGETHER):
        members = [hub.groups(parts[i]) for i in order[first : first + FILES_TOGETHER]]
        turns = [part for turn in itertools.zip_longest(*members) for part in turn if part is not None]
        last = first + FILES_TOGETHER >= len(order)
        for n, part in enumerate(turns[skip:], start=skip + 1):
            if n < len(turns):
                yield part, Position(start.epoch, 0, first, n)
            else:
                yield part, Position(start.epoch + 1) if last else Position(start.epoch, 0, first + FILES_TOGETHER, 0)
        skip = 0


def _chunk(clips: Sequence[Utterance | Rejected], recipe: Recipe) -> Chunk:
    chunk = Chunk([], [], [], [], [], {})
    for clip in clips:
        if isinstance(clip, Rejected):
            chunk.left_out.setdefault(clip.reason, []).append(clip.id)
        elif reason := filters.why_not(clip.text, clip.audio):
            chunk.left_out.setdefault(reason, []).append(clip.id)
        else:
            chunk.ids.append(clip.id)
            chunk.texts.append(" ".join(clip.text.split()))
            chunk.speakers.append(clip.speaker)
            chunk.languages.append(str(clip.meta.get("language") or recipe.language))
            chunk.samples.append(pcm16(clip.audio))
    return chunk
