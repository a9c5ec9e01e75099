"""A window becomes what the model is fed: sound, and the labels that are true of it.

Window -> voice (its clips at their places, or no speech) -> Example (sequence with or without times, letters)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.degrade import noise
from hvisk.restore.words import bare
from hvisk.style import PROMPTS, Style, ask
from hvisk.tokens import MAX_TICK, TICKS_PER_SECOND, Tokens
from hvisk.train.plan import View, Window

MAX_LABELS = 448  # positions of Whisper's decoder
MAX_PREVIOUS = MAX_LABELS // 2 - 1  # tokens of previous text, as OpenAI's decoding has it
QUIET = 40.0  # dB below its loudest 20 ms a clip's edges count as silence
NOISE_LEVELS = (-80.0, -30.0)  # dB of full scale, RMS, of windows without speech: an empty room to a loud one
SILENT = 0.2  # share of windows without speech that are digital silence

Audio = NDArray[np.float32]


class Clips(Protocol):
    """What training needs of a corpus: a Store, or a stream's chunk. The sequences are of one length, one entry a clip."""

    @property
    def ids(self) -> list[str]: ...
    @property
    def texts(self) -> list[str]: ...
    @property
    def speakers(self) -> list[str]: ...
    @property
    def languages(self) -> list[str]: ...
    @property
    def text_style(self) -> str: ...
    @property
    def seconds(self) -> NDArray[np.float64]: ...
    def audio(self, index: int) -> Audio: ...


@dataclass(frozen=True)
class Piece:
    """A clip in a window: its text and language, and from where to where it is heard, in samples of the window."""

    text: str
    language: str
    start: int
    end: int


@dataclass(frozen=True)
class Voice:
    """The sound of a window, float32 mono 16 kHz, and what is said in it, in order, in its style."""

    wave: Audio
    pieces: tuple[Piece, ...]
    view: View
    previous: str
    timed: bool
    style: Style = "written"


@dataclass(frozen=True)
class Example:
    """The labels of a window. sequence: prompt, text and <|endoftext|>, the first `prompt` of which are not learnt.

    text: all that is said in it. view: the window's, for those who look at what the model is fed.
    """

    sequence: list[int]
    prompt: int
    text: str
    view: View


def voice(
    window: Window,
    stores: Sequence[Clips],
    indices: Sequence[NDArray[np.int64]],
    language: str,
    rng: np.random.Generator,
) -> Voice:
    """Put a window's clips where they belong; raises CorpusError, with the clip's id, for a damaged one.

    indices: of each store, where in it the clips lie that the plan counts. language: of clips that do not say their own.
    """
    if not window.clips:
        return Voice(_nobody(round(window.seconds * SAMPLE_RATE), rng), (), window.view, "", window.timed, window.style)

    def text(store: Clips, index: int) -> str:
        return bare(store.texts[index]) if window.style == "plain" else store.texts[index]

    pieces: list[Piece] = []
    waves: list[Audio] = []
    for (s, i), start in zip(window.clips, window.starts, strict=True):
        store, index = stores[s], int(indices[s][i])
        first = round(start * SAMPLE_RATE)
        waves.append(store.audio(index))
        spoken = store.languages[index] or language
        pieces.append(Piece(text(store, index), spoken, first, first + len(waves[-1])))
    wave = waves[0]
    if len(waves) > 1:
        wave = np.zeros(pieces[-1].end, dtype=np.float32)
        for piece, part in zip(pieces, waves, strict=True):
            wave[piece.start : piece.end] = part
    previous = ""
    if window.previous:
        s, i = window.previous
        previous = text(stores[s], int(indices[s][i]))
    return Voice(wave, tuple(pieces), window.view, previous, window.timed, window.style)


def example(
    said: Voice,
    lead: int,
    tokens: Tokens,
    language: str,
    dropout: float,
    rng: np.random.Generator,
    speed: float = 1.0,
) -> Example:
    """Return the labels of a window that begins `lead` samples into its row.

    speed: how fast it will be played, which its times follow. dropout: share of the BPE's merges that are left out
    (Provilkov et al. 2020, arXiv 1910.13267). The prompt's language is the first clip's, or `language` where nobody speaks.
    """
    spoken = said.pieces[0].language if said.pieces else language
    asked = ask(tokens, PROMPTS[said.style])
    prompt = tokens.prompt(spoken, timestamps=said.timed)
    body: list[int] = []
    begin = tokens.timestamp_begin
    for piece in said.pieces:
        ids = tokens.encode(piece.text, dropout, rng, inside=bool(body) and not said.timed)
        if said.timed and ids:
            first, last = edges(said.wave[piece.start : piece.end])
            start, end = (_tick(lead + (piece.start + at) / speed) for at in (first, last))
            start = min(start, MAX_TICK - 1)
            ids = [begin + start, *ids, begin + max(end, start + 1)]
        body += ids
    if len(asked) + len(prompt) + len(body) > MAX_LABELS and (said.timed or dropout):
        # A long text: as it fits, and it does then.
        return example(replace(said, timed=False), lead, tokens, language, 0.0, rng, speed)
    text = " ".join(piece.text for piece in said.pieces)
    if said.previous:
        opening = asked or [tokens.start_of_previous]
        room = max(0, min(1 + MAX_PREVIOUS, MAX_LABELS - len(prompt) - len(body)) - len(opening))
        before = tokens.encode(said.previous, inside=bool(asked))[-room:] if room else []
        asked = [*opening, *before] if before else asked
    prompt = [*asked, *prompt]
    return Example([*prompt, *body, tokens.eot], len(prompt), text, said.view)


def _tick(sample: float) -> int:
    return min(round(sample / SAMPLE_RATE * TICKS_PER_SECOND), MAX_TICK)


def edges(wave: Audio) -> tuple[int, int]:
    """Return where in a clip somebody speaks: the first and the end of its 20 ms that are within QUIET dB of the loudest.

    In samples. All of it where there is nothing but silence, or noise so loud that speech does not stand out.
    """
    frame = SAMPLE_RATE // TICKS_PER_SECOND
    whole = len(wave) // frame
    if not whole:
        return 0, len(wave)
    power = np.square(wave[: whole * frame].reshape(whole, frame), dtype=np.float32).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-QUIET / 10))
    if not len(loud):
        return 0, len(wave)
    # What is left over behind the last whole frame belongs to it.
    end = int(loud[-1]) + 1
    return int(loud[0]) * frame, len(wave) if end == whole else end * frame


def _nobody(samples: int, rng: np.random.Generator) -> Audio:
    """Digital silence, or coloured noise at the level of an empty room up to a loud one."""
    if rng.random() < SILENT:
        return np.zeros(samples, dtype=np.float32)
    colour = ("white", "pink", "brown")[int(rng.integers(3))]
    level = 10 ** (float(rng.uniform(*NOISE_LEVELS)) / 20)
    return (noise(colour, samples, rng) * level).astype(np.float32)  # type: ignore[arg-type]
