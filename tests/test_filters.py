"""What is left out of a corpus, at each limit's two sides, and that ordinary speech is never touched."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import synthetic
from hvisk.corpora.filters import MAX_SECONDS, MIN_SECONDS, why_not


def noise(seconds: float, level: float = 0.1) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(0, level, round(seconds * SAMPLE_RATE)).astype(np.float32)


def tune(peak: float, seconds: float = 1.0) -> NDArray[np.float32]:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (peak * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "audio", "reason"),
    [
        ("ja", noise(MIN_SECONDS), ""),
        ("ja", noise(MIN_SECONDS - 0.01), "too short"),
        ("ja", noise(0), "too short"),
        ("et langt stykke tale", noise(MAX_SECONDS - 9), ""),
        ("et langt stykke tale " * 5, noise(MAX_SECONDS), ""),
        ("et langt stykke tale " * 5, noise(MAX_SECONDS + 0.01), "too long"),
        ("ja", np.zeros((9000, 2), np.float32), "broken audio"),
        ("ja", np.full(9000, np.nan, np.float32), "broken audio"),
        ("ja", np.append(noise(1), np.float32(np.inf)), "broken audio"),
        ("", noise(1), "no text"),
        (" \n\u2003", noise(1), "no text"),
        ("...", noise(1), ""),
        ("...", noise(6), "too little text for its length"),
        ("中", noise(1), ""),  # not Danish, but a text
        ("ja", np.zeros(16000, np.float32), "no sound"),
        ("ja", np.full(16000, 0.3, np.float32), "no sound"),  # a constant is no sound either
        ("ja", tune(4 / 32768), "no sound"),
        ("ja", tune(16 / 32768), ""),  # very quiet: a person turns it up
        ("ja", tune(1.0), ""),
        ("ja", tune(1.04), ""),  # 18 % of a sine are beyond 0.96 of its peak
        ("ja", tune(1.2), "clipped audio"),
        ("ja", tune(3000.0), "clipped audio"),  # integers that somebody took for floats
        ("a" * 38, noise(1), ""),
        ("a" * 39, noise(1), "too much text for its length"),
        ("12345678", noise(1), "too much text for its length"),  # twelve millions, three hundred and ...
        ("ja", noise(7), ""),
        ("ja", noise(7.01), "too little text for its length"),
        ("2026", noise(20), ""),
    ],
)
def test_each_reason_on_both_sides_of_its_limit(text: str, audio: NDArray[np.float32], reason: str) -> None:
    assert why_not(text, audio) == reason


@given(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyzæøå ", min_size=1).filter(str.strip),
    st.floats(8, 22),
    st.floats(0, 3),
)
def test_who_speaks_at_a_human_rate_with_pauses_is_kept(text: str, rate: float, pause: float) -> None:
    seconds = len(text) / rate + pause
    if MIN_SECONDS <= seconds <= MAX_SECONDS:
        assert why_not(text, noise(seconds)) == ""


def test_a_test_keeps_its_odd_clips_and_loses_only_what_nobody_can_recognise() -> None:
    odd = [("ja " * 40, noise(2)), ("ja", noise(20)), ("ja", np.zeros(2 * 16_000, np.float32))]
    assert all(why_not(text, audio) for text, audio in odd)
    assert not any(why_not(text, audio, learnt=False) for text, audio in odd)
    assert why_not(" ", noise(2), learnt=False) == "no text"
    assert why_not("ja", noise(31), learnt=False) == "too long"


def test_synthetic_speech_is_kept() -> None:
    for part in synthetic.plan("test", 20, languages=("da", "nb", "de"), clips_per_part=20):
        assert [why_not(clip.text, clip.audio) for clip in synthetic.read(part)] == [""] * 20
