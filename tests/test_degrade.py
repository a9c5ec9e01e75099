"""Degradations: exact ratios, exact lengths, and spectra that are what they are called."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvisk import sounds
from hvisk.audio import SAMPLE_RATE
from hvisk.degrade import (
    Audio,
    Colour,
    add_noise,
    change_speed,
    impulse_response,
    join,
    noise,
    reverberate,
    rms,
    telephone,
)

COLOURS: tuple[Colour, ...] = ("white", "pink", "brown")


def tone(hertz: float, seconds: float = 2.0, level: float = 0.3) -> Audio:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def speech(seconds: float = 2.0) -> Audio:
    """Bursts and pauses, as speech has them."""
    rng = np.random.default_rng(4)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.1 * rng.standard_normal(len(time)) * (np.sin(2 * np.pi * 2 * time) > 0)).astype(np.float32)


def decibels(ratio: float) -> float:
    return float(20 * np.log10(ratio))


def power(audio: NDArray[np.floating], low: float, high: float) -> float:
    """Power between two frequencies."""
    spectrum = np.abs(np.fft.rfft(audio.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    return float(spectrum[(frequencies >= low) & (frequencies < high)].sum())


def pitch(audio: Audio) -> float:
    return float(np.abs(np.fft.rfft(audio)).argmax() * SAMPLE_RATE / len(audio))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("snr", [20.0, 10.0, 0.0, -5.0])
def test_the_ratio_is_exact(colour: Colour, snr: float) -> None:
    clip = speech()
    before = clip.copy()
    noisy = add_noise(clip, snr, colour, np.random.default_rng(1))
    assert (noisy.dtype, noisy.shape) == (np.float32, clip.shape)
    assert decibels(rms(clip) / rms(noisy.astype(np.float64) - clip)) == pytest.approx(snr, abs=1e-3)
    assert np.array_equal(clip, before)


def test_noise_is_the_same_for_the_same_seed_and_at_every_ratio() -> None:
    clip = speech()
    one, two = (add_noise(clip, snr, "pink", np.random.default_rng(7)) - clip for snr in (20.0, 0.0))
    assert one * 10 == pytest.approx(two, abs=1e-5)
    assert not np.array_equal(
        add_noise(clip, 0, "pink", np.random.default_rng(8)), add_noise(clip, 0, "pink", np.random.default_rng(7))
    )


def test_silence_has_no_ratio() -> None:
    clip = np.zeros(100, np.float32)
    assert not add_noise(clip, 0, "white", np.random.default_rng(0)).any()
    assert add_noise(clip[:0], 0, "pink", np.random.default_rng(0)).shape == (0,)


@pytest.mark.parametrize(("colour", "fall"), [("white", 0.0), ("pink", 3.01), ("brown", 6.02)])
def test_colours_fall_by_their_slope(colour: Colour, fall: float) -> None:
    # Power a hertz in octaves from 62.5 Hz. The lowest has 1250 bins of 20 s, so that its error is some 0.12 dB.
    found = noise(colour, 20 * SAMPLE_RATE, np.random.default_rng(2))
    assert rms(found) == pytest.approx(1)
    density = [10 * np.log10(power(found, low, 2 * low) / low) for low in 62.5 * 2.0 ** np.arange(7)]
    assert -np.diff(density) == pytest.approx([fall] * 6, abs=0.6)


def test_a_telephone_lets_its_band_through_and_nothing_else() -> None:
    # A tone that begins at once has something of every frequency.
    window = np.hanning(2 * SAMPLE_RATE).astype(np.float32)
    for hertz in (310, 1000, 3390):
        assert decibels(rms(telephone(window * tone(hertz))) / rms(window * tone(hertz))) == pytest.approx(0, abs=0.3)
    for hertz in (50, 190, 3510, 5000, 7900):
        assert rms(telephone(window * tone(hertz))) < 0.003 * rms(window * tone(hertz))
    line = telephone(speech())
    assert power(line, 4000, 8001) < 1e-4 * power(line, 300, 3400)


def test_a_telephone_has_eight_bits() -> None:
    # 8-bit mu-law has a signal to noise ratio of some 38 dB whatever the level (ITU-T G.712 asks for 33).
    for level in (0.5, 0.05):
        clip = tone(1000, level=level)
        middle = slice(SAMPLE_RATE // 4, -SAMPLE_RATE // 4)
        wrong = (telephone(clip).astype(np.float64) - clip)[middle]
        assert 32 < decibels(rms(clip[middle]) / rms(wrong)) < 45


@pytest.mark.parametrize("rt60", [0.3, 0.6, 1.0])
def test_a_room_dies_away_in_its_time(rt60: float) -> None:
    room = impulse_response(rt60, np.random.default_rng(3))
    assert (room[0], len(room)) == (1.0, 1 + round(rt60 * SAMPLE_RATE))
    assert np.sum(room[1:] ** 2) == pytest.approx(1)
    left = 10 * np.log10(np.cumsum(room[:0:-1] ** 2)[::-1])  # Schroeder's backward integration
    start, end = (int(np.argmax(left < -fall)) for fall in (5, 35))
    assert 2 * (end - start) / SAMPLE_RATE == pytest.approx(rt60, rel=0.06)


def test_reverberation_keeps_length_and_loudness_and_fills_the_pauses() -> None:
    clip = speech()
    wet = reverberate(clip, 0.6, np.random.default_rng(0))
    assert (wet.dtype, wet.shape) == (np.float32, clip.shape)
    assert rms(wet) == pytest.approx(rms(clip), rel=1e-5)
    pause = clip == 0
    assert rms(wet[pause]) > 0.2 * rms(wet)
    assert not reverberate(np.zeros(50, np.float32), 0.6, np.random.default_rng(0)).any()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_moves_length_and_pitch(factor: float) -> None:
    for samples in (16_000, 16_001, 47_999, 7):
        assert len(change_speed(tone(440, 3.0)[:samples], factor)) == round(samples / factor)
    found = change_speed(tone(440, 4.0), factor)
    assert found.dtype == np.float32
    assert pitch(found) == pytest.approx(440 * factor, abs=0.5)
    assert rms(found) == pytest.approx(rms(tone(440)), rel=0.01)


def test_speed_one_changes_nothing() -> None:
    assert np.array_equal(change_speed(speech(), 1.0), speech())
    assert change_speed(speech()[:0], 0.9).shape == (0,)


@settings(max_examples=25, deadline=None)
@given(samples=st.integers(1, 3000), seed=st.integers(0, 9))
def test_any_length_stays_finite_and_as_long(samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clip = rng.uniform(-1, 1, samples).astype(np.float32)
    for found in (add_noise(clip, 5, "brown", rng), telephone(clip), reverberate(clip, 0.4, rng)):
        assert found.shape == clip.shape
        assert np.isfinite(found).all()
    assert len(change_speed(clip, 1.1)) == round(samples / 1.1)


def test_joining_loses_nothing_and_keeps_the_order() -> None:
    clips = [np.full(n * 1600, i + 1, np.float32) for i, n in enumerate((9, 5, 5, 30, 1))]
    found = join(clips, list("abcde"), 2.0, pause=0.1)
    assert [(one.text, one.clips) for one in found] == [("a b", (0, 1)), ("c", (2,)), ("d", (3,)), ("e", (4,))]
    assert [len(one.audio) / SAMPLE_RATE for one in found] == pytest.approx([1.5, 0.5, 3.0, 0.1])
    assert np.array_equal(found[0].audio, np.concatenate([clips[0], np.zeros(1600, np.float32), clips[1]]))
    assert found[0].audio.dtype == np.float32
    assert join([], [], 60) == []


@given(lengths=st.lists(st.integers(1, 50), max_size=30), limit=st.integers(1, 100))
def test_every_clip_is_in_one_recording_that_is_not_too_long(lengths: list[int], limit: int) -> None:
    found = join([np.ones(n, np.float32) for n in lengths], ["x"] * len(lengths), limit / SAMPLE_RATE, pause=0)
    assert [i for one in found for i in one.clips] == list(range(len(lengths)))
    for one in found:
        assert len(one.audio) == sum(lengths[i] for i in one.clips)
        assert len(one.audio) <= limit or len(one.clips) == 1


@pytest.mark.parametrize("kind", sounds.KINDS)
def test_sounds_without_speech_have_their_length_and_loudness(kind: str) -> None:
    found = sounds.make(kind)
    assert len({one.id for one in found}) == len(found) == (4 if kind == "silence" else 8)
    assert sorted({len(one.audio) / SAMPLE_RATE for one in found}) == list(sounds.SECONDS)
    for one in found:
        assert one.audio.dtype == np.float32
        assert np.abs(one.audio).max() <= 1
        if kind == "silence":
            assert not one.audio.any()
        else:
            wanted = -26 if one.id.endswith("-26dB") else -46
            assert decibels(rms(one.audio)) == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("kind", ["pink", "music", "babble", "breath"])
def test_sounds_depend_on_their_seed_alone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "SECONDS", (1.0,))
    one, again, other = (np.concatenate([s.audio for s in sounds.make(kind, seed)]) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_sounds_sound_like_their_names() -> None:
    hum, music, breath = (sounds.make(kind)[-2].audio for kind in ("hum", "music", "breath"))
    lines = sum(power(hum, k * 50 - 1, k * 50 + 1) for k in range(1, 21))
    assert lines > 0.99 * power(hum, 0, 8001)
    assert power(music, 100, 4000) > 0.95 * power(music, 0, 8001)
    assert 0.2 < np.mean(breath == 0) < 0.8  # bursts, and pauses between them


def test_babble_is_made_of_the_voices_backwards() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[:4000] = np.linspace(0, 1, 4000)  # rises; backwards it falls
    for one in sounds.make("babble", voices=[click, np.zeros(10, np.float32)]):
        steps = np.diff(one.audio)
        assert np.sum(steps < -1e-9) > 10 * np.sum(steps > 1e-9)
    with pytest.raises(ValueError, match="'rain' is no kind of sound"):
        sounds.make("rain")
