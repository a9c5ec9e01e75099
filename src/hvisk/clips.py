"""The clips of an evaluation: in batches of like length, those of the next one decoded while one is recognised."""

import math
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvisk import audio
from hvisk.corpora.store import Store
from hvisk.systems.cache import Cache


@dataclass(frozen=True)
class Clip:
    """A clip's place in the corpus, its float32 16 kHz samples, and what the cache keeps it under (nothing without one)."""

    index: int
    sound: NDArray[np.float32]
    key: str

    @property
    def seconds(self) -> float:
        return audio.seconds(self.sound)


def batches(indices: Sequence[int], store: Store, most: float) -> list[list[int]]:
    """Return batches of like length, at most `most` seconds each: the middle one first, the others shuffled.

    A clip longer than that is a batch of its own.
    """
    lengths = np.nan_to_num(store.seconds, nan=0.0)
    found: list[list[int]] = []
    seconds = 0.0
    for index in sorted(indices, key=lambda i: lengths[i]):
        seconds += float(lengths[index])
        if not found or seconds > most:
            found.append([])
            seconds = float(lengths[index])
        found[-1].append(index)
    # The first batch tells whether the system works at all: very short or long clips may be refused for good reasons.
    first = found.pop(len(found) // 2) if found else None
    others = [found[i] for i in np.random.default_rng(0).permutation(len(found))]
    return [first, *others] if first else []


def loaded(store: Store, planned: Sequence[Sequence[int]], memory: Cache | None) -> Generator[list[Clip], None, None]:
    """Yield the clips of each batch, those of the next one being decoded meanwhile."""

    def load(batch: Sequence[int]) -> list[Clip]:
        sounds = [(i, _sound(store, i)) for i in batch]
        return [Clip(i, sound, memory.key(sound) if memory else "") for i, sound in sounds]

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, planned[0]) if planned else None
        for number in range(len(planned)):
            assert coming is not None
            here = coming.result()
            coming = pool.submit(load, planned[number + 1]) if number + 1 < len(planned) else None
            yield here


def _sound(store: Store, index: int) -> NDArray[np.float32]:
    if math.isfinite(store.seconds[index]):
        return store.audio(index)
    return audio.decode(store.encoded(index))  # a length that nobody knows cannot be compared with what is there
