"""From shards on disk to batches, on one core: python benchmarks/input_pipeline.py [--smoke]

Clips of CoRal's lengths. Claims: `per-core`, seconds of audio a second of hvisk's loader (`train/batches.py`: bytes, samples,
places, labels), whose peer is an aim, 3,000: enough for 4 slow cores to keep two T4s busy. `streaming`, the same beside the
`datasets` library's streaming of the same shards: sounds decoded by soundfile (its own decoder, torchcodec, wants FFmpeg
installed in the system), texts through the same tokenizer, padded batches of as many clips, in order, where ours shuffles.
Time is the process's own on one core, all threads together, which other work on the machine disturbs least.

`work_an_hour`: seconds that each step of ours takes for an hour of audio, from FLAC and from Opus. `waits`: the share of its
time that training on this machine's device waits for a batch, in the loop itself: whisper-tiny's shape, default recipe.
"""

import contextlib
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from transformers import WhisperProcessor

import _clips
import _usual
from _record import claim, write
from hvisk import audio
from hvisk.corpora.store import Store
from hvisk.tokens import Tokens
from hvisk.train import batches, loop
from hvisk.train.batches import Position
from hvisk.train.recipe import Recipe

AIM = 3000  # seconds of audio a second on one core


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """This process on a single core, where the system can do that, and torch with one thread."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def ours(store: Store, tokens: Tokens, recipe: Recipe, wanted: float) -> Callable[[], float]:
    """Seconds of work for a second of audio, over `wanted` seconds of it."""
    selection = batches.select([store], tokens, recipe)

    def measured() -> float:
        with contextlib.closing(batches.stream([store], selection, tokens, recipe, Position())) as stream:
            next(stream)  # as many batches are loaded ahead now as there will be at the end
            began, heard = time.process_time(), 0.0
            while heard < wanted:
                heard += next(stream).seconds
            return (time.process_time() - began) / heard

    return measured


def theirs(store: Store, processor: WhisperProcessor, clips: int, wanted: float) -> Callable[[], float]:
    """The same of the `datasets` library, in batches of `clips`."""

    def collated(rows: list[dict[str, Any]]) -> float:
        samples = [_usual.decode(row) for row in rows]
        waveforms = np.zeros((len(rows), max(map(len, samples))), dtype=np.float32)
        for row, sound in zip(waveforms, samples, strict=True):
            row[: len(sound)] = sound
        torch.from_numpy(waveforms)
        processor.tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
        return sum(map(len, samples)) / audio.SAMPLE_RATE

    def measured() -> float:
        rows = iter(_usual.raw(store.path).repeat(None))
        collated(list(itertools.islice(rows, clips)))
        began, heard = time.process_time(), 0.0
        while heard < wanted:
            heard += collated(list(itertools.islice(rows, clips)))
        return (time.process_time() - began) / heard

    return measured


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Of work, the median of so many calls."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return statistics.median(found)


def steps(store: Store, tokens: Tokens, whole: float, rounds: int) -> dict[str, float]:
    """Seconds of work for an hour of audio: in all, and in the parts that can be told apart from outside."""
    hours = float(store.seconds.sum()) / 3600
    sounds = [store.encoded(i) for i in range(len(store))]
    texts = list(store.texts)
    parts = {
        "fetching the bytes": lambda: [store.encoded(i) for i in range(len(store))],
        "decoding": lambda: [audio.decode(sound) for sound in sounds],
        "labels": lambda: [tokens.labels(text) for text in texts],
    }
    costs = {name: seconds(call, rounds) / hours for name, call in parts.items()}
    rest = {"placing and the rest": 3600 * whole - sum(costs.values())}
    return {name: round(cost, 3) for name, cost in {"in all": 3600 * whole, **costs, **rest}.items()}


def waits(recipe: Recipe) -> float:
    """The share of the loop's time that goes into waiting for the next batch."""
    waited = 0.0
    stream = batches.stream

    def timed(*arguments: Any) -> Generator[Any, None, None]:
        nonlocal waited
        inner = stream(*arguments)
        with contextlib.closing(inner):
            while True:
                began = time.perf_counter()
                batch = next(inner)
                waited += time.perf_counter() - began
                yield batch

    with mock.patch.object(batches, "stream", timed), tempfile.TemporaryDirectory() as out:
        state = loop.train(replace(recipe, out=out), Console(file=io.StringIO())).state
    return waited / state.seconds


def main() -> None:
    smoke = "--smoke" in sys.argv
    count, passes, rounds, trained = (128, 1, 2, 2) if smoke else (512, 3, 5, 16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = torch.get_num_threads()
        stores = {
            codec: _clips.corpus(folder / codec, "train", count, shards=8, codec=codec, workers=workers)
            for codec in ("flac", "opus")
        }
        validation = _clips.corpus(folder / "validation", "validation", 1)
        tiny = _clips.whisper_tiny(folder / "tiny")
        tokens = Tokens.load(tiny)
        processor = WhisperProcessor.from_pretrained(tiny, language="danish", task="transcribe")
        recipe = Recipe(
            out="",
            train=(str(stores["flac"].path),),
            validation=str(validation.path),
            validation_clips=1,
            base=str(tiny),
            steps=trained,
            evaluate_every=10**9,
            checkpoint_every=10**9,
        )
        clips = round(recipe.batch_seconds / stores["flac"].seconds.mean())
        wanted = passes * float(stores["flac"].seconds.sum())
        times: dict[str, list[tuple[float, float]]] = {}
        with one_core():
            for codec, store in stores.items():
                runs = ours(store, tokens, recipe, wanted), theirs(store, processor, clips, wanted)
                times[codec] = [(runs[0](), runs[1]()) for _ in range(-1, rounds)][1:]
            whole = {codec: statistics.median(our for our, _ in found) for codec, found in times.items()}
            costs = {codec: steps(store, tokens, whole[codec], rounds) for codec, store in stores.items()}
        waited = waits(recipe)
    aimed = [(our, 1 / AIM) for our, _ in times["flac"]]
    unit = "seconds of audio a second"
    sizes = {
        codec: round(sum(len(store.encoded(i)) for i in range(len(store))) / float(store.seconds.sum()))
        for codec, store in stores.items()
    }
    claims = {
        "per-core": claim(aimed, peer_name="the aim", unit=unit)
        | {
            "opus": round(1 / whole["opus"], 1),
            "bytes_a_second": sizes,
            "work_an_hour": costs,
            "waits": round(waited, 4),
            "waits_on": f"{'cuda' if torch.cuda.is_available() else 'cpu'}, {recipe.loader_threads} loader threads",
        },
        "streaming": claim(times["flac"], peer_name="datasets, streaming, soundfile", unit=unit)
        | {"opus": claim(times["opus"], peer_name="the same from Opus", unit=unit)},
    }
    write(
        "input_pipeline",
        "smoke" if smoke else "full",
        claims,
        ["torch", "datasets", "soundfile", "pyarrow", "tokenizers"],
    )


if __name__ == "__main__":
    main()
