"""Voice activity: the network against its packager's own loop, and the arithmetic of cutting against its promises."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.recogniser import vad
from hvisk.recogniser.vad import FRAME, THRESHOLD, Piece, cut, pieces, speech_probabilities

SECONDS = FRAME / SAMPLE_RATE  # of a frame


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def noise(seconds: float, level: float, colour: float = 0.0) -> np.ndarray:
    """Noise whose power falls with frequency ** colour: 0 is white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(int(seconds * SAMPLE_RATE)))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** (colour / 2)
    wave = np.fft.irfft(spectrum)
    return (level * wave / wave.std()).astype(np.float32)


@pytest.fixture(scope="module")
def first() -> np.ndarray:
    return speak("Vi mødes på torvet i morgen klokken halv otte.")


@pytest.fixture(scope="module")
def second() -> np.ndarray:
    return speak("Jeg elsker tebirkes.", voice="f2")


def test_probabilities_are_those_of_the_loop_that_comes_with_the_network(first: np.ndarray, second: np.ndarray) -> None:
    from faster_whisper.vad import get_vad_model

    audio = np.concatenate([silence(0.5), first, noise(1, 0.01), second])
    audio = audio[: len(audio) // FRAME * FRAME]
    expected = get_vad_model()(audio.copy())  # it writes zeros into the end of what it is given
    found = speech_probabilities(audio)
    assert found.shape == (len(audio) // FRAME,)
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=1e-5)
    assert found.max() > 0.95
    assert found.min() < 0.05


def test_blocks_do_not_show(first: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = speech_probabilities(first)
    monkeypatch.setattr(vad, "BLOCK", 7)
    np.testing.assert_allclose(speech_probabilities(first), whole, atol=1e-5)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (512, 1), (513, 2)])
def test_a_last_frame_that_is_not_full_counts(samples: int, frames: int) -> None:
    found = speech_probabilities(np.zeros(samples, np.float32))
    assert found.shape == (frames,)
    assert found.dtype == np.float32


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01, 0.001])
def test_two_sentences_are_found_at_any_level(first: np.ndarray, second: np.ndarray, gain: float) -> None:
    audio = np.concatenate([silence(2), first, silence(3), second, silence(5)]) * np.float32(gain)
    audio += noise(20, 3e-6)[: len(audio)]  # a converter's own
    one, two = pieces(audio)
    ends = 2 + len(first) / SAMPLE_RATE, 5 + (len(first) + len(second)) / SAMPLE_RATE
    assert one.start == pytest.approx(2 - vad.PAD_SECONDS, abs=0.15)
    assert one.end == pytest.approx(ends[0] + vad.PAD_SECONDS, abs=0.15)
    assert two.start == pytest.approx(ends[0] + 3 - vad.PAD_SECONDS, abs=0.15)
    assert two.end == pytest.approx(ends[1] + vad.PAD_SECONDS, abs=0.15)


def test_a_bang_does_not_hide_quiet_speech(first: np.ndarray) -> None:
    audio = np.concatenate([silence(2), first * np.float32(0.001), silence(2)])
    audio[8_000:10_000] = noise(1, 0.3)[:2_000]
    assert any(piece.start < 2.1 and piece.end > 1.9 + len(first) / SAMPLE_RATE for piece in pieces(audio))


@pytest.mark.parametrize("gain", [1.0, 0.001])
def test_one_word_in_a_minute_of_digital_silence_is_found(gain: float) -> None:
    word = speak("Nej.") * np.float32(gain)
    room = noise(1, 1e-4)[:1_500] * np.float32(gain)  # dies away after the word
    (piece,) = pieces(np.concatenate([silence(50), word, room, silence(10)]))
    assert piece.start < 50 < 50 + len(word) / SAMPLE_RATE < piece.end


def test_what_16_bits_cannot_hold_is_silence(first: np.ndarray) -> None:
    assert pieces(first * np.float32(1e-6)) == []


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-3, 0.1])
def test_silence_and_noise_have_no_pieces(level: float, colour: float) -> None:
    assert pieces(noise(20, level, colour)) == []


def test_speech_as_loud_as_the_noise_under_it_is_found(first: np.ndarray) -> None:
    audio = noise(8, float(first.std()), colour=1.0)
    audio[2 * SAMPLE_RATE : 2 * SAMPLE_RATE + len(first)] += first
    (piece,) = pieces(audio)
    assert piece.start < 2.1
    assert piece.end > 1.9 + len(first) / SAMPLE_RATE


def test_a_long_talk_is_cut_in_its_pauses(first: np.ndarray, second: np.ndarray) -> None:
    parts, breaks, at = [], [], 0.0
    for number in range(24):
        sentence = (first, second)[number % 2]
        parts += [sentence, silence(0.3)]
        breaks.append(at + len(sentence) / SAMPLE_RATE)
        at = breaks[-1] + 0.3
    audio = np.concatenate(parts)
    found = pieces(audio)
    assert len(found) > 3
    assert max(piece.end - piece.start for piece in found) <= vad.TARGET_SECONDS
    assert min(piece.end - piece.start for piece in found) > 2
    for piece in found[:-1]:
        assert min(abs(piece.end - (pause + 0.15)) for pause in breaks) < 0.2, piece


@settings(max_examples=300, deadline=None)
@given(
    probabilities=st.lists(
        st.tuples(st.sampled_from([0.0, 0.2, THRESHOLD, 0.5, 0.9, 1.0]), st.integers(1, 120)), max_size=40
    ).map(lambda runs: np.array([p for p, count in runs for _ in range(count)], np.float32)),
    missing=st.integers(0, FRAME - 1),
    max_seconds=st.floats(0.2, 30),
    target_seconds=st.floats(0.2, 40),
    threshold=st.sampled_from([0.0, 0.2, THRESHOLD, 0.5]),
)
def test_pieces_keep_their_promises(
    probabilities: np.ndarray, missing: int, max_seconds: float, target_seconds: float, threshold: float
) -> None:
    samples = max(0, len(probabilities) * FRAME - missing)
    found = cut(probabilities, samples, max_seconds=max_seconds, target_seconds=target_seconds, threshold=threshold)
    spans = [(round(piece.start * SAMPLE_RATE), round(piece.end * SAMPLE_RATE)) for piece in found]
    edges = [0, *itertools.chain(*spans), samples]
    assert edges == sorted(edges)
    assert all(0 < end - start <= max_seconds * SAMPLE_RATE for start, end in spans)
    for frame in np.flatnonzero(probabilities >= threshold):
        first, last = frame * FRAME, min((frame + 1) * FRAME, samples)
        assert any(start <= first and last <= end for start, end in spans), (first, last, spans)


def test_a_threshold_of_zero_keeps_everything() -> None:
    rng = np.random.default_rng(0)
    found = cut(rng.random(2_000).astype(np.float32), 2_000 * FRAME - 5, threshold=0.0)
    assert found[0].start == 0
    assert found[-1].end == (2_000 * FRAME - 5) / SAMPLE_RATE
    assert all(one.end == two.start for one, two in itertools.pairwise(found))


def test_a_speaker_without_a_pause_gets_the_limit_and_is_cut_where_speech_is_least_sure() -> None:
    breathless = np.ones(1_500, np.float32)  # 48 s
    breathless[800:808] = 0.6  # 25.6 s
    one, two = cut(breathless, 1_500 * FRAME)
    assert one == Piece(0.0, pytest.approx(804 * SECONDS, abs=3 * SECONDS))
    assert two == Piece(one.end, 48.0)


def test_neighbours_are_joined_up_to_the_target_and_across_short_gaps_only() -> None:
    words = np.zeros(1_000, np.float32)
    for second in (1, 2.5, 4, 5.5, 7, 8.5, 10, 20, 24):
        words[round(second / SECONDS) :][:10] = 1.0
    assert [round(piece.end - piece.start) for piece in cut(words, 1_000 * FRAME)] == [10, 1, 1]
    assert [round(piece.end - piece.start) for piece in cut(words, 1_000 * FRAME, target_seconds=4)] == [4, 4, 1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"max_seconds": 0.1}, "at least"), ({"target_seconds": 0.0}, "at least"), ({"samples": 9_999}, "20 frames")],
)
def test_impossible_arguments_are_errors(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut(np.ones(10, np.float32), **{"samples": 10 * FRAME, **arguments})  # type: ignore[arg-type]


def test_the_package_that_carries_the_network_is_not_imported() -> None:
    code = (
        "import sys, numpy, hvisk.recogniser.vad as vad; vad.speech_probabilities(numpy.zeros(999, numpy.float32)); "
        "print([name for name in ('faster_whisper', 'ctranslate2', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_without_the_network_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    vad._network.cache_clear()
    with pytest.raises(ModelError, match=r"pip install 'faster-whisper>=1\.2\.1'"):
        speech_probabilities(np.ones(FRAME, np.float32))
