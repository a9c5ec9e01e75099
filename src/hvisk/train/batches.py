"""From corpora to batches: a plan that follows from (seed, epoch) alone, batches that follow from their place in it.

    stores -> select: what can be learnt -> plan(epoch): lists of (store, clip) close in length
           -> load(place): waveforms and labels -> Batch

Whoever knows the epoch and the number of batches already taken knows everything: resuming reads nothing again.
"""

import json
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvisk import audio, features
from hvisk.corpora.store import Store
from hvisk.errors import RecipeError
from hvisk.tokens import Tokens
from hvisk.train.recipe import Recipe

IGNORED = -100  # the label that torch's cross entropy leaves out
MAX_LABELS = 448  # positions of Whisper's decoder
LETTERS = " abcdefghijklmnopqrstuvwxyzæøåäöüéß"  # of the auxiliary CTC loss; 0 is its blank
BATCHES_SORTED_TOGETHER = 40  # clips of so many batches are sorted by length: little padding, batches still random


@dataclass(frozen=True)
class Position:
    """How far training has come in the data: batches taken of an epoch, by each of the run's processes."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batch:
    """B clips padded with silence to the same frames.

    waveforms: (B, frames * HOP) float32. inputs, labels: (B, L) int64, labels shifted one to the left and IGNORED in
    the prompt and after <|endoftext|>. letters: (B, C) int64 for the CTC loss, 0 after the end. seconds: of audio,
    padding left out. after: the position once this batch is taken.
    """

    waveforms: Tensor
    inputs: Tensor
    labels: Tensor
    letters: Tensor
    letter_counts: Tensor
    seconds: float
    after: Position


def open_corpora(recipe: Recipe) -> tuple[list[Store], Store]:
    """Open the training corpora and the validation corpus; RecipeError when they share clips, CorpusError for none."""
    stores = [Store.open(Path(path)) for path in recipe.train]
    validation = Store.open(Path(recipe.validation))
    known = set(validation.ids)
    for path, store in zip(recipe.train, stores, strict=True):
        shared = known.intersection(store.ids)
        if shared:
            raise RecipeError(
                f"{len(shared)} clips of the validation corpus {recipe.validation} are in the training corpus {path} "
                f"too (the first: {min(shared)}). Validation would be flattering; prepare disjoint splits."
            )
    return stores, validation


def languages(store: Store, recipe: Recipe) -> list[str]:
    """The language of each clip: its own, as its metadata says, else the recipe's."""
    return [str(json.loads(meta).get("language") or recipe.language) for meta in store.table["meta"].to_pylist()]


@dataclass(frozen=True)
class Selection:
    """What is learnt. clips: the indices of the clips, one array a store; left_out: the other clips' ids by reason."""

    clips: list[NDArray[np.int64]]
    left_out: dict[str, list[str]]


def select(stores: Sequence[Store], tokens: Tokens, recipe: Recipe) -> Selection:
    """Leave out, before training begins, the clips that would stop it in the middle of the night.

    They are those whose text does not fit into Whisper's decoder, and those in a language that the vocabulary lacks.
    RecipeError when none is left, ModelError when the recipe's own language is unknown.
    """
    room = MAX_LABELS + 1 - len(tokens.labels("", recipe.language))
    known = set(tokens.languages())
    clips: list[NDArray[np.int64]] = []
    left_out: dict[str, list[str]] = {}
    for store in stores:
        kept: list[int] = []
        for index, (text, language) in enumerate(zip(store.texts, languages(store, recipe), strict=True)):
            if language not in known:
                left_out.setdefault(f"the vocabulary has no language '{language}'", []).append(store.ids[index])
            # A token is a byte at least, a space in front included: most texts need not be split to know that they fit.
            elif len(text.encode()) >= room and len(tokens.encode(text)) > room:
                left_out.setdefault(f"the text has more than {room} tokens", []).append(store.ids[index])
            else:
                kept.append(index)
        clips.append(np.array(kept, dtype=np.int64))
    if not any(map(len, clips)):
        reasons = "; ".join(f"{reason}: {len(ids)} clips" for reason, ids in left_out.items())
        raise RecipeError(
            f"No clip in {', '.join(recipe.train)} can be learnt ({reasons}). Name another corpus or base."
        )
    return Selection(clips, left_out)


def plan(
    seconds: Sequence[NDArray[np.float64]], epoch: int, *, batch_seconds: float, seed: int
) -> list[list[tuple[int, int]]]:
    """Return the batches of one epoch as lists of (store, clip): every clip once, random, alike in length.

    seconds: the clips' lengths, one array a store. A batch's clips times its longest one is at most `batch_seconds`.
    """
    rng = np.random.default_rng([seed, epoch])
    clips = [(s, i) for s, lengths in enumerate(seconds) for i in range(len(lengths))]
    lengths = np.concatenate(seconds)
    order = rng.permutation(len(clips))
    together = max(1, int(BATCHES_SORTED_TOGETHER * batch_seconds / float(lengths.mean())))
    batches: list[list[tuple[int, int]]] = []
    for first in range(0, len(order), together):
        group = order[first : first + together]
        group = group[np.argsort(lengths[group], kind="stable")]
        batch: list[int] = []
        for index in group:
            if batch and (len(batch) + 1) * lengths[index] > batch_seconds:  # ascending: this one is the longest
                batches.append([clips[i] for i in batch])
                batch = []
            batch.append(int(index))
        batches.append([clips[i] for i in batch])
    return [batches[i] for i in rng.permutation(len(batches))]


def stream(
    stores: Sequence[Store],
    selection: Selection,
    tokens: Tokens,
    recipe: Recipe,
    start: Position,
    rank: int = 0,
) -> Generator[Batch, None, None]:
    """Yield batches without end from `start` on, loaded ahead in threads (soundfile decodes without Python's lock).

    Of several processes each takes its own batch of every step: `rank` says which. Their audio together is the recipe's
    batch_seconds.
    """
    with ThreadPoolExecutor(recipe.loader_threads, thread_name_prefix="hvisk-loader") as pool:
        ahead: deque[Future[Batch]] = deque()
        places = _places(stores, selection, recipe, start, rank)
        try:
            while True:
                while len(ahead) < 2 * recipe.loader_threads + 1:
                    ahead.append(pool.submit(load, stores, tokens, recipe, *next(places)))
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _places(
    stores: Sequence[Store], selection: Selection, recipe: Recipe, start: Position, rank: int
) -> Iterator[tuple[list[tuple[int, int]], Position, Position]]:
    lengths = [store.seconds[clips] for store, clips in zip(stores, selection.clips, strict=True)]
    epoch, skip, share = start.epoch, start.batch, recipe.batch_seconds / recipe.processes
    while True:
        batches = plan(lengths, epoch, batch_seconds=share, seed=recipe.seed)
        if len(batches) < recipe.processes:
            raise RecipeError(
                f"The corpus makes {len(batches)} batches of {share:.0f} s, too few for "
                f"{recipe.processes} processes. Train with --set processes=1."
            )
        steps = len(batches) // recipe.processes  # what is left over, less than a step, is skipped
        for step in range(skip, steps):
            after = Position(epoch + 1, 0) if step + 1 == steps else Position(epoch, step + 1)
            number = step * recipe.processes + rank
            clips = [(s, int(selection.clips[s][i])) for s, i in batches[number]]
            yield clips, Position(epoch, number), after
        epoch, skip = epoch + 1, 0


def load(
    stores: Sequence[Store],
    tokens: Tokens,
    recipe: Recipe,
    clips: Sequence[tuple[int, int]],
    place: Position,
    after: Position,
) -> Batch:
    """Load one batch. What is random in it follows from the recipe's seed and the batch's place alone."""
    rng = np.random.default_rng([recipe.seed, place.epoch, place.batch, 1])
    waves = [stores[s].audio(i) for s, i in clips]
    texts = [stores[s].texts[i] for s, i in clips]
    languages = [str(stores[s].meta(i).get("language") or recipe.language) for s, i in clips]
    longest = max(len(wave) for wave in waves)
    frames = features.frames_for(longest, margin=int(rng.integers(0, recipe.margin + 1)))
    if rng.random() < recipe.padded_share:
        frames = features.MAX_FRAMES
        keep = int(
            recipe.batch_seconds / recipe.processes // features.MAX_SECONDS
        )  # the same audio a step, so the same memory
        chosen = rng.permutation(len(waves))[:keep]
        waves, texts, languages = ([x[i] for i in chosen] for x in (waves, texts, languages))
    waveforms = np.zeros((len(waves), frames * features.HOP), dtype=np.float32)
    for i, wave in enumerate(waves):
        # Silence before a clip too: recordings are cut with some, and a model that never heard it stumbles at every start.
        room = min(waveforms.shape[1] - len(wave), recipe.margin * features.HOP)
        start = int(rng.integers(0, room + 1))
        waveforms[i, start : start + len(wave)] = wave
    sequences = [tokens.labels(text, language) for text, language in zip(texts, languages, strict=True)]
    inputs, labels = label_arrays(sequences, len(tokens.prompt(recipe.language)), tokens.eot)
    letters = [[LETTERS.index(c) + 1 for c in text.lower() if c in LETTERS] for text in texts]
    letter_rows = np.zeros((len(letters), max(1, *map(len, letters))), dtype=np.int64)
    for i, line in enumerate(letters):
        letter_rows[i, : len(line)] = line
    return Batch(
        waveforms=torch.from_numpy(waveforms),
        inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(labels),
        letters=torch.from_numpy(letter_rows),
        letter_counts=torch.tensor([len(line) for line in letters]),
        seconds=sum(map(len, waves)) / audio.SAMPLE_RATE,
        after=after,
    )


def spell(batch: Batch, tokens: Tokens) -> str:
    """Return the first clip's whole sequence, prompt and end included, with its special tokens written out."""
    last = int((batch.labels[0] != IGNORED).nonzero().max())
    ids = [*batch.inputs[0, : last + 1].tolist(), int(batch.labels[0, last])]
    return str(tokens.tokenizer.decode(ids, skip_special_tokens=False))


def label_arrays(
    sequences: Sequence[Sequence[int]], prompt: int, eot: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return decoder inputs and labels, both (B, L) int64, of full sequences: `prompt` tokens, text, <|endoftext|>.

    The labels are the inputs shifted by one, by hand: labels[t] is the token after inputs[t], the prompt's own tokens
    are IGNORED and <|endoftext|> is learnt. A model given the start token twice scores well in training and badly in
    use. ValueError for more than MAX_LABELS inputs.
    """
    length = max(len(sequence) for sequence in sequences) - 1
    if length > MAX_LABELS:
        raise ValueError(f"{length} decoder inputs; Whisper's decoder has {MAX_LABELS} positions")
    inputs = np.full((len(sequences), length), eot, dtype=np.int64)
    labels = np.full((len(sequences), length), IGNORED, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        size = len(sequence) - 1
        inputs[row, :size] = sequence[:-1]
        labels[row, prompt - 1 : size] = sequence[prompt:]
    return inputs, labels
