"""Clean clips made worse in known ways, and non-speech to go with them: pure functions on float32, mono, 16 kHz.

None changes its input, none clips its output, and all randomness comes from the generator that is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE

Audio = NDArray[np.float32]
Colour = Literal["white", "pink", "brown"]

SLOPE = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude falls with frequency to this power: 0, 3, 6 dB an octave
FLAT_BELOW = 20.0  # Hz; else most of brown noise would be where nobody hears

TELEPHONE_BAND = (300.0, 3400.0)  # Hz; ITU-T G.712
EDGE = 100.0  # Hz from full to nothing
MU = 255.0  # ITU-T G.711

PADDING = SAMPLE_RATE // 4  # samples of silence, so that a filter in the frequency domain does not reach round


def noise(colour: Colour, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return Gaussian noise of RMS 1 whose power falls by 0 (white), 3 (pink) or 6 dB (brown) an octave above 20 Hz."""
    white = rng.standard_normal(samples)
    if colour != "white" and samples:
        frequencies = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), FLAT_BELOW)
        white = np.fft.irfft(np.fft.rfft(white) * frequencies ** -SLOPE[colour], samples)
    return white / rms(white) if samples else white


def rms(audio: NDArray[np.floating]) -> float:
    """Return the root mean square of the samples, 0 of none."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0


def add_noise(audio: Audio, snr_db: float, colour: Colour, rng: np.random.Generator) -> Audio:
    """Add noise so that the power of the whole clip, pauses included, is `snr_db` above that of the noise.

    Silence has no ratio to anything and comes back as it is.
    """
    added = noise(colour, len(audio), rng) * rms(audio) * 10 ** (-snr_db / 20)
    return (audio + added).astype(np.float32)


def telephone(audio: Audio) -> Audio:
    """Return what a telephone line leaves: 300 to 3400 Hz, sampled at 8 kHz, 8 bits by the mu-law (G.711's curve).

    As long as the clip. Samples beyond [-1, 1] are cut off, as the codec does.
    """
    band = _filter(audio.astype(np.float64), *TELEPHONE_BAND)
    line = np.clip(band[::2], -1, 1)  # nothing is left above 4 kHz, so every second sample is all there is
    codes = np.rint(np.sign(line) * np.log1p(MU * np.abs(line)) / np.log1p(MU) * 127)
    heard = np.sign(codes) * np.expm1(np.abs(codes) / 127 * np.log1p(MU)) / MU
    apart = np.zeros(len(audio))
    apart[::2] = 2 * heard  # zeros between them mirror the spectrum at 4 kHz; the filter takes the mirror image away
    return _filter(apart, 0.0, SAMPLE_RATE / 4 - EDGE).astype(np.float32)


def reverberate(audio: Audio, rt60: float, rng: np.random.Generator) -> Audio:
    """Return the clip as in a room where sound falls by 60 dB in `rt60` seconds, as long and as loud as before.

    The room is the direct sound and, with the same energy, Gaussian noise that dies away exponentially (Moorer 1979,
    "About this reverberation business"). What would be heard after the clip's end is lost.
    """
    if not audio.any():
        return audio.copy()
    room = impulse_response(rt60, rng)
    size = len(audio) + len(room)
    wet = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size), size)[: len(audio)]
    return (wet * (rms(audio) / rms(wet))).astype(np.float32)


def impulse_response(rt60: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return such a room's answer to a click, until it is 60 dB down: the click itself, then its tail."""
    time = np.arange(1, round(rt60 * SAMPLE_RATE) + 1) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60)  # amplitude: 60 dB are a factor of 1000
    return np.concatenate([[1.0], tail / np.sqrt(np.sum(tail**2))])


def change_speed(audio: Audio, factor: float) -> Audio:
    """Return the clip played `factor` times as fast, round(samples / factor) long.

    Speed, not tempo: the pitch moves too, as when a tape runs faster, which is what recognisers are trained against as
    "speed perturbation" (Ko et al. 2015). It leaves no artefacts that a recogniser could trip over instead.
    """
    wanted = round(len(audio) / factor)
    if factor == 1 or not wanted:
        return audio[:wanted].copy()
    # Silence after it brings the last samples out of the filter, and a clip of a few samples out at all.
    padded = np.pad(audio, (0, PADDING)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(padded[None], format="flt", layout="mono")
    frame.sample_rate = round(SAMPLE_RATE * factor)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    parts = [piece.to_ndarray()[0] for piece in [*resampler.resample(frame), *resampler.resample(None)]]
    return np.concatenate(parts)[:wanted]


@dataclass(frozen=True, eq=False)
class Recording:
    """Clips one after the other; text: their texts, joined; clips: their places in what was given to `join`."""

    audio: Audio
    text: str
    clips: tuple[int, ...]


def join(clips: Sequence[Audio], texts: Sequence[str], seconds: float, pause: float = 0.5) -> list[Recording]:
    """Join clips, in their order, to recordings of at most `seconds`, with `pause` seconds of silence between two.

    Every clip is in exactly one recording, whole; one that is longer than `seconds` is a recording of its own. The last
    recording is as long as what was left.
    """
    gap = np.zeros(round(pause * SAMPLE_RATE), np.float32)
    groups: list[list[int]] = []
    length = 0
    for index, clip in enumerate(clips):
        if groups and length + len(gap) + len(clip) <= seconds * SAMPLE_RATE:
            groups[-1].append(index)
            length += len(gap) + len(clip)
        else:
            groups.append([index])
            length = len(clip)
    recordings = []
    for group in groups:
        parts = [part for index in group for part in (gap, clips[index])][1:]
        recordings.append(Recording(np.concatenate(parts), " ".join(texts[i] for i in group), tuple(group)))
    return recordings


def _filter(audio: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Keep the frequencies from `low` to `high` Hz; outside, half a cosine of 100 Hz, then nothing."""
    size = len(audio) + PADDING
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    outside = np.maximum(low - frequencies, frequencies - high).clip(0, EDGE)
    spectrum = np.fft.rfft(audio, size) * (0.5 + 0.5 * np.cos(np.pi * outside / EDGE))
    return np.asarray(np.fft.irfft(spectrum, size)[: len(audio)])
