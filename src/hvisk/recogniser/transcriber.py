"""A loaded model and a recording -> a transcript: what `hvisk.load` returns, and what `hvisk transcribe` runs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvisk import audio
from hvisk.errors import AudioError
from hvisk.recogniser import defaults, longform
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.guards import ALL_GUARDS, Guards
from hvisk.recogniser.longform import Transcript
from hvisk.style import Style

BLOCK = 10 * audio.SAMPLE_RATE  # samples of an array that are handed on at once


@dataclass(frozen=True, eq=False)
class Transcriber:
    """A model that turns recordings of any length into text; `recogniser` is the piece beneath, for clips of up to 30 s."""

    recogniser: Recogniser

    def transcribe(
        self,
        source: str | Path | bytes | NDArray[np.floating],
        *,
        language: str = defaults.LANGUAGE,
        style: Style | None = None,
        hotwords: Sequence[str] = (),
        prompt: str = "",
        beam_size: int = defaults.BEAM_SIZE,
        vad: bool = defaults.VAD,
        words: bool = False,
        guards: Guards | None = ALL_GUARDS,
        channel: int | None = None,
        name: str | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Transcribe a sound or video file, its bytes, or an array: 1-D float, mono at 16 kHz, full scale at 1.

        A file is read in blocks, so that its length costs no memory. language: Whisper's code. style: "written" or
        "plain", of a model that was taught both. hotwords: words that the recording may hold, as they are to be
        written. prompt: what was said before, for a model that learnt with such texts. beam_size: 1 is greedy and fastest.
        vad: leave out what is not speech. words: tell when each word is said; subtitles are timed by it. guards: what
        becomes of texts that no one can have said; None keeps them all. channel: of a file, from 0, instead of the mean of
        all. name: stands for the source in messages. on_progress is told the seconds that are done. Raises
        AudioError for what holds no usable sound or is cut short, ModelError for a language or style that the model lacks.
        """
        recogniser = self.recogniser.styled(style).prompted(prompt)
        if hotwords:
            recogniser = recogniser.expecting(hotwords)
        return longform.stream(
            recogniser,
            _blocks(source, channel, name),
            language=language,
            beam_size=beam_size,
            vad=vad,
            words=words,
            guards=guards,
            on_progress=on_progress,
        )


def _blocks(
    source: str | Path | bytes | NDArray[np.floating], channel: int | None, name: str | None
) -> Iterator[NDArray[np.float32]]:
    if isinstance(source, str | Path):
        yield from audio.blocks(Path(source), name=name, channel=channel)
        return
    if channel is not None:
        raise AudioError("A channel can be taken of a file alone. Of an array, give the channel itself.")
    samples = audio.load(source, name=name) if isinstance(source, bytes) else _checked(source, name or "The array")
    yield from (samples[at : at + BLOCK] for at in range(0, len(samples), BLOCK))


def _checked(samples: NDArray[np.floating], name: str) -> NDArray[np.float32]:
    wanted = "Accepted: 1-D float, mono at 16 kHz, full scale at 1; or give the file's path."
    if not isinstance(samples, np.ndarray) or not np.issubdtype(samples.dtype, np.floating):
        kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        whole = " Whole numbers of 16 bits become that by / 32768." if kind == np.int16 else ""
        raise AudioError(f"{name} holds {kind}. {wanted}{whole}")
    if samples.ndim != 1 or not samples.size:
        raise AudioError(f"{name} has the shape {samples.shape}. {wanted}")
    if not audio.is_sound(samples):
        raise AudioError(f"{name} holds samples that are not numbers (NaN, infinite or beyond 2^31). {wanted}")
    return samples.astype(np.float32, copy=False)
