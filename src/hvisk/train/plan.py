"""The plan of an epoch: which clips are heard together, in which view, in which batch. It follows from (seed, epoch) alone.

    clips -> drawn (mixing of corpora) -> windows (views) -> batches of about one length, in random order

A window is what the model hears at once. Its view says how: a clip at its "own" length, several of one speaker "packed" into
one, "padded" to 30 s as other Whisper runtimes do it, or "silence", where nobody speaks and nothing is to be written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvisk.features import MAX_SECONDS
from hvisk.style import Style
from hvisk.train.recipe import Recipe

BATCHES_SORTED_TOGETHER = 40  # windows of so many batches are sorted by length: little padding, batches still random
GAP = (0.2, 1.0)  # seconds between two clips of a packed window: a speaker's pause
SHORTEST_PACK = 8.0  # seconds; a packed window aims at a length between this and Whisper's 30 s
PACK_BYTES = 400  # of text: a token is a byte at least, and Whisper's decoder has 448 places, times and style included

View = Literal["own", "packed", "padded", "silence"]
Clip = tuple[int, int]  # store, and place among the clips of it that are learnt
# Of a corpus its clips ordered by speaker, and for each clip where in that order its speaker's begin and end.
Voices = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Learnable:
    """The clips of one store that can be learnt, as the plan needs them: four arrays of one length.

    seconds: float64; speakers: int64, equal for the same speaker; sizes: int64, bytes of text; written: bool, whether the
    text is in the written style, or styles are not told apart.
    """

    seconds: NDArray[np.float64]
    speakers: NDArray[np.int64]
    sizes: NDArray[np.int64]
    written: NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """What the model hears at once: `clips` beginning at `starts`, in seconds from the first one's beginning.

    seconds: from the first clip's beginning to the last one's end; of silence, how long it is. previous: the clip whose
    text was said before, for the prompt. timed: whether the labels carry timestamps. style: how its texts are taught;
    plain ones are asked for.
    """

    clips: tuple[Clip, ...]
    starts: tuple[float, ...]
    seconds: float
    view: View = "own"
    previous: Clip | None = None
    timed: bool = False
    style: Style = "written"

    @property
    def cost(self) -> float:
        """Seconds that it takes in a batch."""
        return float(MAX_SECONDS) if self.view == "padded" else self.seconds


def plan(corpora: Sequence[Learnable], epoch: int, recipe: Recipe, size: int = 1) -> list[list[Window]]:
    """Return the batches of one epoch. A batch's windows times its longest one's cost is at most batch_seconds / size.

    With the recipe's views, weights and temperature left as they are, every clip is in one window of its own.
    """
    rng = np.random.default_rng([recipe.seed, epoch])
    clips = _drawn(corpora, recipe, rng)
    singly, together = _split(corpora, clips, recipe.packed_share, rng)
    windows = [Window((clip,), (0.0,), float(corpora[clip[0]].seconds[clip[1]])) for clip in singly]
    windows += _packed(corpora, together, rng)
    windows = _viewed(corpora, windows, recipe, rng)
    return _batches(windows, recipe.batch_seconds / size, rng)


def repeats(hours: Sequence[float], recipe: Recipe) -> list[float]:
    """Return how often each corpus is heard in one epoch: the recipe's weights, or its temperature's rule.

    Temperature 1 hears every clip once; T > 1 gives corpus i a share of hours_i ** (1 / T), as multilingual training does
    (Conneau et al. 2020, arXiv 1911.02116, section 3.1, with alpha = 1 / T), and leaves the epoch's length as it is.
    """
    if recipe.weights:
        return list(recipe.weights)
    powers = [h ** (1 / recipe.temperature) if h else 0.0 for h in hours]
    total, mixed = sum(hours), sum(powers)
    return [power / mixed * total / h if h else 0.0 for power, h in zip(powers, hours, strict=True)]


def _drawn(corpora: Sequence[Learnable], recipe: Recipe, rng: np.random.Generator) -> list[Clip]:
    """The epoch's clips in random order: each as often as its corpus is repeated, a part of a time by lot."""
    clips: list[Clip] = []
    often = repeats([float(c.seconds.sum()) for c in corpora], recipe)
    for store, (corpus, times) in enumerate(zip(corpora, often, strict=True)):
        whole, rest = int(times), times - int(times)
        order = rng.permutation(len(corpus.seconds))
        chosen = [*np.tile(order, whole), *order[: round(rest * len(order))]]
        clips += [(store, int(i)) for i in chosen]
    return [clips[i] for i in rng.permutation(len(clips))]


def _split(
    corpora: Sequence[Learnable], clips: list[Clip], share: float, rng: np.random.Generator
) -> tuple[list[Clip], list[Clip]]:
    """Divide the clips, in random order, into those heard singly and those to be packed: `share` of the seconds."""
    if not share:
        return clips, []
    ends = np.cumsum([corpora[s].seconds[i] for s, i in clips])
    cut = int(np.searchsorted(ends, share * ends[-1], side="left")) + 1
    return clips[cut:], clips[:cut]


def _packed(corpora: Sequence[Learnable], clips: list[Clip], rng: np.random.Generator) -> list[Window]:
    """Windows of several clips of one speaker of one corpus, with pauses between them."""
    windows: list[Window] = []
    speakers: dict[tuple[int, int], list[Clip]] = {}
    for store, i in clips:
        speakers.setdefault((store, int(corpora[store].speakers[i])), []).append((store, i))
    for theirs in speakers.values():
        waiting: list[Clip] = []
        starts: list[float] = []
        end, size, aim = 0.0, 0, 0.0
        for store, i in theirs:
            gap = float(rng.uniform(*GAP))
            seconds = float(corpora[store].seconds[i])
            letters = int(corpora[store].sizes[i]) + 3  # a space or two timestamps
            if waiting and (end + gap + seconds > aim or size + letters > PACK_BYTES):
                windows.append(Window(tuple(waiting), tuple(starts), end, _shape(waiting)))
                waiting, starts = [], []
            if not waiting:
                end, size, gap = 0.0, 0, 0.0
                aim = float(rng.uniform(SHORTEST_PACK, MAX_SECONDS))
            waiting.append((store, i))
            starts.append(end + gap)
            end, size = end + gap + seconds, size + letters
        windows.append(Window(tuple(waiting), tuple(starts), end, _shape(waiting)))
    return windows


def _shape(clips: Sequence[Clip]) -> View:
    return "packed" if len(clips) > 1 else "own"


def _viewed(
    corpora: Sequence[Learnable], windows: list[Window], recipe: Recipe, rng: np.random.Generator
) -> list[Window]:
    """Draw which windows are padded, timed, follow another text, in which style, and add those where nobody speaks."""
    count = len(windows)
    mean = float(np.mean([w.seconds for w in windows]))
    # So many windows that 30 s each of them are the wanted share of all the seconds that the encoder hears.
    share = recipe.padded_share
    padded = rng.random(count) < share * mean / (MAX_SECONDS * (1 - share) + share * mean)
    timed = rng.random(count) < recipe.timestamps
    follows = rng.random(count) < recipe.previous_share
    plain = _plain(corpora, windows, recipe.plain_share, rng) if recipe.plain_share else [False] * count
    voices = [_voices(corpus) for corpus in corpora] if recipe.previous_share else []
    viewed = [
        replace(
            window,
            view="padded" if padded[n] else window.view,
            timed=bool(timed[n]),
            previous=_neighbour(corpora, voices, window, bool(plain[n]), rng) if follows[n] else None,
            style="plain" if plain[n] else "written",
        )
        for n, window in enumerate(windows)
    ]
    silent = round(count * recipe.silence_share / (1 - recipe.silence_share))
    for n in rng.integers(0, count, silent):
        like = viewed[n]  # as long as speech is, so that length tells nothing
        view: View = "padded" if like.view == "padded" else "silence"
        viewed.append(Window((), (), like.seconds, view, timed=like.timed, style=like.style))
    return viewed


def _plain(
    corpora: Sequence[Learnable], windows: Sequence[Window], share: float, rng: np.random.Generator
) -> list[bool]:
    """Tell which windows are taught in the plain style: those with a text that has no other, and `share` of the rest."""
    lots = rng.random(len(windows)) < share
    written = [all(corpora[store].written[i] for store, i in window.clips) for window in windows]
    return [bool(lot) or not able for lot, able in zip(lots, written, strict=True)]


def _neighbour(
    corpora: Sequence[Learnable], voices: Sequence[Voices], window: Window, plain: bool, rng: np.random.Generator
) -> Clip | None:
    """Another clip by the same speaker, or none: what stood before may be of another matter, but not of another voice.

    Nor of another style: any text can be made plain, but one that is so no other.
    """
    store, i = window.clips[0]
    order, first, end = voices[store]
    theirs = order[first[i] : end[i]]
    mine = {clip for _, clip in window.clips}
    if len(theirs) <= len(mine):
        return None
    turn = int(rng.integers(len(theirs)))
    chosen = next(int(clip) for clip in np.roll(theirs, -turn)[: len(mine) + 1] if int(clip) not in mine)
    return (store, chosen) if plain or corpora[store].written[chosen] else None


def _voices(corpus: Learnable) -> Voices:
    order = np.argsort(corpus.speakers, kind="stable")
    sorted_ = corpus.speakers[order]
    first = np.searchsorted(sorted_, corpus.speakers, side="left")
    return order, first, np.searchsorted(sorted_, corpus.speakers, side="right")


def _batches(windows: list[Window], batch_seconds: float, rng: np.random.Generator) -> list[list[Window]]:
    costs = np.array([window.cost for window in windows])
    order = rng.permutation(len(windows))
    together = max(1, int(BATCHES_SORTED_TOGETHER * batch_seconds / float(costs.mean())))
    batches: list[list[Window]] = []
    for first in range(0, len(order), together):
        group = order[first : first + together]
        group = group[np.argsort(costs[group], kind="stable")]
        batch: list[Window] = []
        for index in group:
            if batch and (len(batch) + 1) * costs[index] > batch_seconds:  # ascending: this one is the longest
                batches.append(batch)
                batch = []
            batch.append(windows[index])
        batches.append(batch)
    return [batches[i] for i in rng.permutation(len(batches))]
