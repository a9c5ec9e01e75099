"""From corpora to batches: a plan that follows from (seed, epoch) alone, batches that follow from their place in it.

    stores -> select: what can be learnt -> plan(epoch): lists of windows close in length
           -> load(place): voices and examples -> Batch

Whoever knows the epoch and the number of batches already taken knows everything: resuming reads nothing again.
"""

import math
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
from hvisk.corpora.folder import UNKNOWN_SPEAKER
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError, RecipeError
from hvisk.restore.words import bare, finished
from hvisk.style import PROMPTS, ask
from hvisk.tokens import Tokens
from hvisk.train import augment, views
from hvisk.train.plan import Learnable, View, Window, plan
from hvisk.train.recipe import Recipe
from hvisk.train.views import MAX_LABELS, Clips, Example, Voice

IGNORED = -100  # the label that torch's cross entropy leaves out
LETTERS = " abcdefghijklmnopqrstuvwxyzæøåäöüéß"  # of the auxiliary CTC loss; 0 is its blank
_LETTER = {letter: number for number, letter in enumerate(LETTERS, start=1)}


@dataclass(frozen=True)
class Position:
    """How far training has come in the data: batches taken of an epoch, by each of the run's processes.

    Of a stream: batches of a chunk, and how many files, and row groups of those at hand, lie before the chunk.
    """

    epoch: int = 0
    batch: int = 0
    files: int = 0
    groups: int = 0


@dataclass(frozen=True)
class Batch:
    """B clips padded with silence to the same frames.

    waveforms: (B, frames * HOP) float32. spans: (B, 2) int64, the first sample of each window's sound in its row, and its
    end. speeds: (B,) float32, how fast it is to be played (`augment.speeds`), as the labels' times have it. inputs, labels:
    (B, L) int64, labels shifted one to the left and IGNORED in the prompt and after <|endoftext|>. letters: (B, C) int64
    for the CTC loss, 0 after the end. views: one a row. broken: what is wrong with the clips that are damaged and left out.
    seconds: of audio, padding left out. after: the position once this batch is taken.
    """

    waveforms: Tensor
    spans: Tensor
    inputs: Tensor
    labels: Tensor
    letters: Tensor
    letter_counts: Tensor
    speeds: Tensor
    views: tuple[View, ...]
    broken: tuple[str, ...]
    seconds: float
    after: Position


def open_corpora(recipe: Recipe) -> tuple[list[Store], Store]:
    """Open the training corpora, of which streams are none, and the validation corpus.

    RecipeError when they share clips, CorpusError for one that is not there.
    """
    prepared = [path for path in recipe.train if path not in recipe.streams]
    stores = [Store.open(Path(path)) for path in prepared]
    validation = Store.open(Path(recipe.validation))
    known = set(validation.ids)
    for path, store in zip(prepared, stores, strict=True):
        shared = known.intersection(store.ids)
        if shared:
            raise RecipeError(
                f"{len(shared)} clips of the validation corpus {recipe.validation} are in the training corpus {path} "
                f"too (the first: {min(shared)}). Validation would be flattering; prepare disjoint splits."
            )
    return stores, validation


def languages(store: Clips, recipe: Recipe) -> list[str]:
    """The language of each clip: its own, as its metadata says, else the recipe's."""
    return [language or recipe.language for language in store.languages]


def written(store: Clips) -> Iterator[bool]:
    """Tell of each text whether it is cased and punctuated, as a whole sentence is.

    Of a corpus that is said to be so, anything that has capitals or marks: it may hold parts of sentences.
    """
    believed = {"cased", "punctuated"} <= set(store.text_style.split(", "))
    return (finished(text) or (believed and bare(text) != text) for text in store.texts)


@dataclass(frozen=True)
class Selection:
    """What is learnt. clips: the indices of the clips, one array a store; left_out: the other clips' ids by reason."""

    clips: list[NDArray[np.int64]]
    left_out: dict[str, list[str]]


def select(stores: Sequence[Clips], tokens: Tokens, recipe: Recipe) -> Selection:
    """Leave out, before training begins, the clips that would stop it in the middle of the night.

    They are those whose text does not fit into Whisper's decoder, and those in a language that the vocabulary lacks.
    RecipeError when none is left, or when two styles are to be learnt and none has the one that is the default; ModelError
    when the recipe's own language is unknown.
    """
    chosen = choose(stores, tokens, recipe)
    if not any(map(len, chosen.clips)):
        reasons = "; ".join(f"{reason}: {len(ids)} clips" for reason, ids in chosen.left_out.items())
        raise RecipeError(
            f"No clip in {', '.join(recipe.train)} can be learnt ({reasons}). Name another corpus or base."
        )
    if recipe.plain_share and not any(map(any, map(written, stores))):
        raise RecipeError(
            f"plain_share = {recipe.plain_share}, and no text in {', '.join(recipe.train)} is cased and punctuated: plain "
            "is all that could be learnt. Make such texts with hvisk restore, add another corpus, or set plain_share to 0."
        )
    return chosen


def choose(stores: Sequence[Clips], tokens: Tokens, recipe: Recipe) -> Selection:
    """As `select`, and content with nothing: of a stream's chunk that may be so."""
    room = MAX_LABELS + 1 - len(tokens.labels("", recipe.language))
    if recipe.plain_share:
        room -= len(ask(tokens, PROMPTS["plain"]))
    known = set(tokens.languages())
    clips: list[NDArray[np.int64]] = []
    left_out: dict[str, list[str]] = {}
    for store in stores:
        kept: list[int] = []
        for index, (text, language) in enumerate(zip(store.texts, languages(store, recipe), strict=True)):
            if language not in known:
                left_out.setdefault(f"the vocabulary has no language '{language}'", []).append(store.ids[index])
            # A token is a byte at least, a space in front included: most texts need not be split to know that they fit.
            elif len(text.encode()) >= room and _size(text, tokens, recipe) > room:
                left_out.setdefault(f"the text has more than {room} tokens", []).append(store.ids[index])
            else:
                kept.append(index)
        clips.append(np.array(kept, dtype=np.int64))
    return Selection(clips, left_out)


def _size(text: str, tokens: Tokens, recipe: Recipe) -> int:
    """Tokens of a text, in the style that has more of them."""
    return max(len(tokens.encode(form)) for form in ((text, bare(text)) if recipe.plain_share else (text,)))


def learnable(stores: Sequence[Clips], selection: Selection, recipe: Recipe) -> list[Learnable]:
    """Return what the plan needs to know of the selected clips, one entry a store.

    Somebody who speaks two languages counts as two speakers, since a window has one language; clips without a name are
    each a speaker's own, since nobody knows whose voice it is.
    """
    found = []
    for store, clips in zip(stores, selection.clips, strict=True):
        spoken = languages(store, recipe)
        names = [f"{spoken[i]} {name}" if (name := store.speakers[i]) != UNKNOWN_SPEAKER else f"#{i}" for i in clips]
        _, speakers = np.unique(names, return_inverse=True)
        sizes = np.array([len(store.texts[i].encode()) for i in clips], dtype=np.int64)
        style = (
            np.fromiter(written(store), np.bool_)[clips] if recipe.plain_share else np.ones(len(clips), dtype=np.bool_)
        )
        found.append(Learnable(store.seconds[clips], speakers.astype(np.int64), sizes, style))
    return found


def stream(
    stores: Sequence[Store],
    selection: Selection,
    tokens: Tokens,
    recipe: Recipe,
    start: Position,
    rank: int = 0,
    size: int = 1,
) -> Generator[Batch, None, None]:
    """Yield batches without end from `start` on, loaded ahead in threads (soundfile decodes without Python's lock).

    Of `size` processes each takes its own batch of every step: `rank` says which. Their audio together is the recipe's
    batch_seconds.
    """
    with ThreadPoolExecutor(recipe.loader_threads, thread_name_prefix="hvisk-loader") as pool:
        ahead: deque[Future[Batch]] = deque()
        places = _places(stores, selection, recipe, start, rank, size)
        try:
            while True:
                while len(ahead) < 2 * recipe.loader_threads + 1:
                    ahead.append(pool.submit(load, stores, selection, tokens, recipe, *next(places)))
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _places(
    stores: Sequence[Store], selection: Selection, recipe: Recipe, start: Position, rank: int, size: int
) -> Iterator[tuple[list[Window], Position, Position]]:
    corpora = learnable(stores, selection, recipe)
    epoch, skip = start.epoch, start.batch
    while True:
        planned = plan(corpora, epoch, recipe, size)
        if len(planned) < size:
            raise RecipeError(
                f"The corpus makes {len(planned)} batches of {recipe.batch_seconds / size:.0f} s, too few for "
                f"{size} processes. Train with --set processes=1."
            )
        steps = len(planned) // size  # what is left over, less than a step, is skipped
        for step in range(skip, steps):
            after = Position(epoch + 1, 0) if step + 1 == steps else Position(epoch, step + 1)
            number = step * size + rank
            yield planned[number], Position(epoch, number), after
        epoch, skip = epoch + 1, 0


def load(
    stores: Sequence[Clips],
    selection: Selection,
    tokens: Tokens,
    recipe: Recipe,
    windows: Sequence[Window],
    place: Position,
    after: Position,
    left_out: tuple[str, ...] = (),
) -> Batch:
    """Load one batch. What is random in it follows from the recipe's seed and the batch's place alone.

    left_out: what the batch's `broken` is to name besides its own damaged clips.
    """
    rng = np.random.default_rng([recipe.seed, place.epoch, place.batch, 1])
    said: list[Voice] = []
    broken = list(left_out)
    for window in windows:
        try:
            said.append(views.voice(window, stores, selection.clips, recipe.language, rng))
        except CorpusError as error:  # one among a million: the night goes on without it
            broken.append(str(error))
    if not said:
        said = [Voice(np.zeros(audio.SAMPLE_RATE, dtype=np.float32), (), "silence", "", False)]
    speeds = augment.speeds(rng, [len(v.wave) for v in said], recipe.speed)
    taken = [max(len(v.wave), math.ceil(len(v.wave) / speed)) for v, speed in zip(said, speeds, strict=True)]
    frames = features.frames_for(max(taken), margin=int(rng.integers(0, recipe.margin + 1)))
    if any(v.view == "padded" for v in said):
        frames = features.MAX_FRAMES
    waveforms = np.zeros((len(said), frames * features.HOP), dtype=np.float32)
    spans = np.zeros((len(said), 2), dtype=np.int64)
    examples: list[Example] = []
    for i, v in enumerate(said):
        # Silence before a clip too: recordings are cut with some, and a model that never heard it stumbles at every start.
        room = min(waveforms.shape[1] - taken[i], recipe.margin * features.HOP)
        lead = int(rng.integers(0, room + 1))
        waveforms[i, lead : lead + len(v.wave)] = v.wave
        spans[i] = lead, lead + len(v.wave)
        examples.append(views.example(v, lead, tokens, recipe.language, recipe.bpe_dropout, rng, float(speeds[i])))
    inputs, labels = label_arrays([e.sequence for e in examples], [e.prompt for e in examples], tokens.eot)
    letters = [[_LETTER[c] for c in e.text.lower() if c in _LETTER] if recipe.ctc_weight else [] for e in examples]
    letter_rows = np.zeros((len(letters), max(1, *map(len, letters))), dtype=np.int64)
    for i, line in enumerate(letters):
        letter_rows[i, : len(line)] = line
    return Batch(
        waveforms=torch.from_numpy(waveforms),
        spans=torch.from_numpy(spans),
        inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(labels),
        letters=torch.from_numpy(letter_rows),
        letter_counts=torch.tensor([len(line) for line in letters]),
        speeds=torch.from_numpy(speeds),
        views=tuple(e.view for e in examples),
        broken=tuple(broken),
        seconds=sum(len(v.wave) for v in said) / audio.SAMPLE_RATE,
        after=after,
    )


def spell(batch: Batch, tokens: Tokens) -> str:
    """Return the first clip's whole sequence, prompt and end included, with its special tokens written out."""
    last = int((batch.labels[0] != IGNORED).nonzero().max())
    ids = [*batch.inputs[0, : last + 1].tolist(), int(batch.labels[0, last])]
    return str(tokens.tokenizer.decode(ids, skip_special_tokens=False))


def label_arrays(
    sequences: Sequence[Sequence[int]], prompts: Sequence[int], eot: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return decoder inputs and labels, both (B, L) int64, of full sequences: prompt, text, <|endoftext|>.

    prompts: how many tokens of each sequence are its prompt.

    The labels are the inputs shifted by one, by hand: labels[t] is the token after inputs[t], the prompt's own tokens
    are IGNORED and <|endoftext|> is learnt. A model given the start token twice scores well in training and badly in
    use. ValueError for more than MAX_LABELS inputs.
    """
    length = max(len(sequence) for sequence in sequences) - 1
    if length > MAX_LABELS:
        raise ValueError(f"{length} decoder inputs; Whisper's decoder has {MAX_LABELS} positions")
    inputs = np.full((len(sequences), length), eot, dtype=np.int64)
    labels = np.full((len(sequences), length), IGNORED, dtype=np.int64)
    for row, (sequence, prompt) in enumerate(zip(sequences, prompts, strict=True)):
        size = len(sequence) - 1
        inputs[row, :size] = sequence[:-1]
        labels[row, prompt - 1 : size] = sequence[prompt:]
    return inputs, labels
