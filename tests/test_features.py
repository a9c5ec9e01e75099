import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from hvisk import features
from hvisk.audio import SAMPLE_RATE
from hvisk.features import HOP, MAX_FRAMES, MIN_FRAMES, frames_for, log_mel, mel_filters


def sweep(seconds: float, low: float = 100.0, high: float = 7000.0) -> np.ndarray:
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return np.sin(2 * np.pi * (low * time + (high - low) / (2 * seconds) * time**2)).astype(np.float32)


def syllables(seconds: float, seed: int = 0) -> np.ndarray:
    """A buzz of 120 Hz with moving resonances, breath noise and four syllables a second: shaped like speech."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formant = 500 + 300 * np.sin(2 * np.pi * 1.3 * time)
    buzz = sum(
        np.sin(k * phase)
        * (np.exp(-(((k * pitch - formant) / 150) ** 2)) + 0.3 * np.exp(-(((k * pitch - 1800) / 300) ** 2)))
        for k in range(1, 30)
    )
    envelope = np.clip(np.sin(2 * np.pi * 2 * time), 0, None)
    voice = 0.2 * envelope * buzz + 0.02 * envelope[::-1] * rng.standard_normal(time.size)
    return (voice + 1e-4 * rng.standard_normal(time.size)).astype(np.float32)


SIGNALS = {
    "speech-like": syllables(6.0),
    "quiet": 1e-3 * syllables(3.0, seed=1),
    "clipped": np.clip(8 * syllables(3.0, seed=2), -1, 1),
    "noise bursts": (syllables(4.0, seed=3) > 0.02) * np.random.default_rng(3).standard_normal(64_000) * 0.1,
    "click": np.eye(1, 16_000, 8_000)[0],
    "short": syllables(0.05),
    "a full window": syllables(30.0, seed=4),
    "digital silence": np.zeros(16_000),
}


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_30_second_window_equals_the_extractor_of_transformers(name: str, n_mels: int) -> None:
    audio = SIGNALS[name].astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    expected = extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features[0]
    ours = log_mel(audio, n_mels, frames=MAX_FRAMES)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_a_noiseless_sweep_equals_it_as_far_as_float32_goes(n_mels: int) -> None:
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    for audio in (sweep(6.0), 1e-4 * sweep(6.0), np.clip(5 * sweep(3.0), -1, 1), sweep(2.0, 440, 440)):
        expected = extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="np").input_features[0]
        np.testing.assert_allclose(log_mel(audio, n_mels, frames=MAX_FRAMES), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_filters_are_the_ones_that_openai_ships(n_mels: int) -> None:
    package = importlib.util.find_spec("whisper")
    assert package is not None, "run: pip install --no-deps openai-whisper"
    assert package.submodule_search_locations is not None
    with np.load(Path(package.submodule_search_locations[0]) / "assets" / "mel_filters.npz") as shipped:
        np.testing.assert_allclose(mel_filters(n_mels), shipped[f"mel_{n_mels}"], rtol=0, atol=1e-8)
    assert mel_filters(n_mels).dtype == np.float32


def test_the_shared_filters_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_filters(80)[0, 0] = 1.0


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 10_000, 96_000, 100_123])
def test_more_frames_are_the_same_as_silence_appended_to_the_waveform(samples: int) -> None:
    audio = syllables(7.0)[:samples]
    frames = frames_for(samples, margin=50)
    padded = np.concatenate([audio, np.zeros(frames * HOP - samples, dtype=np.float32)])
    np.testing.assert_allclose(log_mel(audio, frames=frames), log_mel(padded), rtol=0, atol=1e-5)


def test_its_own_length_is_the_beginning_of_the_30_second_window() -> None:
    audio = syllables(5.0)
    own = log_mel(audio)
    assert own.shape == (80, frames_for(audio.size))
    np.testing.assert_allclose(own, log_mel(audio, frames=MAX_FRAMES)[:, : own.shape[1]], rtol=0, atol=1e-5)


def test_a_clip_that_fills_its_frames_is_reflected_at_its_end() -> None:
    audio = syllables(2.0)[: 64 * HOP]
    reference = WhisperFeatureExtractor(feature_size=80, chunk_length=1)
    reference.n_samples = audio.size
    expected = reference(audio, sampling_rate=SAMPLE_RATE, return_tensors="np", padding=False).input_features[0]
    np.testing.assert_allclose(log_mel(audio, frames=64), expected, rtol=0, atol=1e-4)


@given(samples=st.integers(1, 30 * SAMPLE_RATE), margin=st.integers(0, 128))
def test_frames_hold_the_audio_and_come_in_few_sizes(samples: int, margin: int) -> None:
    frames = frames_for(samples, margin)
    assert MIN_FRAMES <= frames <= MAX_FRAMES
    assert frames == MAX_FRAMES or frames % features.FRAME_MULTIPLE == 0
    assert frames * HOP >= samples
    assert frames in (MIN_FRAMES, MAX_FRAMES) or frames - samples / HOP - margin < features.FRAME_MULTIPLE


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 40_000),
    level=st.floats(1e-6, 10.0),
    seed=st.integers(0, 99),
    n_mels=st.sampled_from([80, 128]),
)
def test_any_clip_gives_finite_float32_within_two_of_its_maximum(
    samples: int, level: float, seed: int, n_mels: int
) -> None:
    audio = (level * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    mel = log_mel(audio, n_mels)
    assert mel.shape == (n_mels, frames_for(samples))
    assert mel.dtype == np.float32
    assert np.isfinite(mel).all()
    assert mel.max() - mel.min() <= 2.0 + 1e-5


def test_silence_is_minus_one_and_a_half_everywhere() -> None:
    np.testing.assert_allclose(log_mel(np.zeros(20_000, dtype=np.float32)), -1.5, atol=1e-6)


def test_ten_times_the_amplitude_adds_half() -> None:
    audio = syllables(2.0)
    # Two decades of power, divided by four; loud enough that only the clip's own maximum sets the floor.
    np.testing.assert_allclose(log_mel(10 * audio), log_mel(audio) + 0.5, atol=1e-4)


def test_audio_longer_than_its_frames_is_refused_and_not_cut() -> None:
    with pytest.raises(ValueError, match=r"1\.00 s of audio do not fit in 99 frames"):
        log_mel(np.zeros(SAMPLE_RATE, dtype=np.float32), frames=99)
    with pytest.raises(ValueError, match="split it first"):
        log_mel(np.zeros(31 * SAMPLE_RATE, dtype=np.float32))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 1000), dtype=np.float32), "1-D"),
        (np.zeros(0, dtype=np.float32), "non-empty"),
        (np.zeros(1000, dtype=np.int16), "int16"),
        (np.full(1000, np.nan, dtype=np.float32), "finite"),
        (np.array([0.0, np.inf] * 500, dtype=np.float32), "finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_no_mono_sound_is_refused(audio: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_mel(audio)


def test_too_few_frames_to_reflect_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 frames"):
        log_mel(np.zeros(100, dtype=np.float32), frames=1)
