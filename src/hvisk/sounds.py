"""Sounds in which nobody says a word, made on the spot: what a recogniser writes about them, it has made up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.degrade import Audio, noise, rms

KINDS = ("silence", "white", "pink", "brown", "hum", "music", "babble", "breath")
SECONDS = (1.0, 3.0, 10.0, 25.0)
LEVELS = (-26.0, -46.0)  # dB of full scale, RMS: as loud as speech, and a quiet room; silence has but one level
VOICES = 6  # of babble


@dataclass(frozen=True, eq=False)
class Sound:
    """A clip without speech. id: its kind, seconds and level."""

    id: str
    kind: str
    audio: Audio


def make(kind: str, seed: int = 0, voices: Sequence[Audio] = ()) -> list[Sound]:
    """Return the clips of one kind: 1, 3, 10 and 25 s, each at two levels.

    voices: clips of speech for the babble, overlaid backwards, so that no word is left in it; without them it is made of
    buzzes with the formants of vowels.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of sound; there are {', '.join(KINDS)}")
    voices = [voice for voice in voices if voice.any()]
    found = []
    for seconds in SECONDS:
        for level in LEVELS if kind != "silence" else (-np.inf,):
            # Of its own place alone: a clip is the same whichever others are made.
            rng = np.random.default_rng(
                [seed, KINDS.index(kind), round(seconds), round(abs(level)) if level > -99 else 0]
            )
            wave = _wave(kind, round(seconds * SAMPLE_RATE), rng, voices)
            loudness = rms(wave)
            audio = (wave * (10 ** (level / 20) / loudness if loudness else 0.0)).astype(np.float32)
            name = f"{kind}-{seconds:g}s" + (f"{level:g}dB" if level > -99 else "")
            found.append(Sound(name, kind, audio))
    return found


def _wave(kind: str, samples: int, rng: np.random.Generator, voices: Sequence[Audio]) -> NDArray[np.float64]:
    match kind:
        case "silence":
            return np.zeros(samples)
        case "white" | "pink" | "brown":
            return noise(kind, samples, rng)
        case "hum":
            return _hum(samples, rng)
        case "music":
            return _music(samples, rng)
        case "babble":
            return _babble(samples, rng, voices) if voices else _buzzes(samples, rng)
        case "breath":
            return _breath(samples, rng)
    raise AssertionError(kind)


def _hum(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Mains: 50 Hz and its harmonics up to 1 kHz, each weaker than the one below."""
    time = np.arange(samples) / SAMPLE_RATE
    phases = rng.uniform(0, 2 * np.pi, 20)
    return np.asarray(sum(np.sin(2 * np.pi * 50 * k * time + phases[k - 1]) / k for k in range(1, 21)))


def _music(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Plucked chords: three tones of a minor or major key at a time, each of six harmonics that die away."""
    wave = np.zeros(samples)
    at = 0
    root = rng.uniform(110, 220)  # Hz
    while at < samples:
        length = min(round(rng.uniform(0.4, 1.0) * SAMPLE_RATE), samples - at)
        time = np.arange(length) / SAMPLE_RATE
        step = rng.choice([0, 3, 5, 7, 8])  # semitones
        for interval in (0, rng.choice([3, 4]), 7):
            tone = root * 2 ** ((step + interval) / 12)
            for k in range(1, 7):
                wave[at : at + length] += np.sin(2 * np.pi * k * tone * time) * np.exp(-3 * k**0.5 * time) / k
        at += length
    return wave


def _babble(samples: int, rng: np.random.Generator, voices: Sequence[Audio]) -> NDArray[np.float64]:
    wave = np.zeros(samples)
    for _ in range(VOICES):
        voice = voices[int(rng.integers(len(voices)))][::-1].astype(np.float64)
        repeated = np.resize(np.roll(voice, rng.integers(len(voice))), samples)
        wave += repeated / max(rms(repeated), 1e-9)
    return wave


def _buzzes(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Several voices without words: syllables of 100 to 300 ms, pulses at a voice's pitch through three formants."""
    wave = np.zeros(samples)
    for _ in range(VOICES):
        pitch = rng.uniform(80, 250)  # Hz
        at = -int(rng.integers(SAMPLE_RATE // 4))
        while at < samples:
            length = (
                int(rng.integers(10, 31)) * SAMPLE_RATE // 100
            )  # in steps of 10 ms: other lengths are slow to transform
            pulses = np.zeros(length)
            pulses[:: round(SAMPLE_RATE / (pitch * rng.uniform(0.85, 1.15)))] = 1
            frequencies = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
            formants = rng.uniform((250, 800, 2200), (800, 2200, 3200))
            gains = np.sum(
                [g / (1 + ((frequencies - f) / 80) ** 2) for f, g in zip(formants, (1, 0.5, 0.2), strict=True)], axis=0
            )
            syllable = np.fft.irfft(np.fft.rfft(pulses) * gains, length) * np.hanning(length)
            first = max(0, -at)
            inside = syllable[first : samples - at]
            wave[at + first : at + first + len(inside)] += inside
            at += length + (round(rng.uniform(0.1, 0.5) * SAMPLE_RATE) if rng.random() < 0.2 else 0)
    return wave


def _breath(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Bursts of pink noise of 0.3 to 0.8 s that swell and fade, about one in two seconds, the first at once."""
    wave = np.zeros(samples)
    at = 0
    while at < samples:
        length = round(rng.uniform(0.3, 0.8) * SAMPLE_RATE)
        burst = (noise("pink", length, rng) * np.hanning(length))[: samples - at]
        wave[at : at + len(burst)] = burst
        at += length + round(rng.uniform(0.8, 2.0) * SAMPLE_RATE)
    return wave
