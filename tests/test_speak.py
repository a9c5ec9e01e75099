"""Synthetic speech: finite, as long as its words take, and the same on every call and in every process."""

import hashlib
import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import speak as module
from hvisk.corpora.speak import Word, languages, speak, speak_words, voices
from hvisk.errors import CorpusError, MissingExtra

SHORT = "Jeg elsker tebirkes."
LONG = "Vi mødes på torvet i morgen klokken halv otte."


def digest(audio: np.ndarray) -> str:
    return hashlib.sha256(audio.tobytes()).hexdigest()


def test_a_sentence_is_finite_mono_float32_of_a_plausible_length():
    audio = speak(LONG)
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    assert np.isfinite(audio).all()
    assert 0.1 < np.abs(audio).max() <= 1
    assert 1.8 < len(audio) / SAMPLE_RATE < 3.2


def test_resampling_keeps_the_length_and_the_pitch():
    # A tone of 1 kHz at eSpeak's rate is a tone of 1 kHz at ours, and as long.
    tone = (10_000 * np.sin(2 * np.pi * 1000 * np.arange(22_050) / 22_050)).astype(np.int16)
    audio = module._resample(tone, 22_050)
    assert len(audio) == pytest.approx(SAMPLE_RATE, abs=2)
    assert np.argmax(np.abs(np.fft.rfft(audio[:SAMPLE_RATE]))) == pytest.approx(1000, abs=1)


def test_every_voice_speaks_danish_repeats_itself_exactly_and_no_two_sound_alike():
    sounds = {voice: speak(SHORT, voice=voice) for voice in voices()}
    for voice in reversed(voices()):
        assert digest(speak(SHORT, voice=voice)) == digest(sounds[voice]), voice
    assert len(sounds) >= 90
    for voice, audio in sounds.items():
        assert 0.7 < len(audio) / SAMPLE_RATE < 2.0, voice
        assert np.sqrt(np.mean(audio**2)) > 0.01, voice
    assert len({digest(audio) for audio in sounds.values()}) == len(sounds)


@pytest.mark.parametrize("language", ["da", "nb", "sv", "de", "nl", "en", "is", "fi"])
def test_every_language_in_use_is_spoken(language):
    assert language in languages()
    assert len(speak("I morgen er der sol.", language=language)) > SAMPLE_RATE // 2


def test_languages_differ_for_the_same_text():
    assert digest(speak(SHORT, language="da")) != digest(speak(SHORT, language="sv"))


@pytest.mark.parametrize("voice", ["m1", "f4", "klatt", "Mr serious", "robosoft"])
def test_what_was_said_before_leaves_no_trace(voice):
    alone = digest(speak(SHORT, voice=voice))
    speak(LONG, voice="f4", pitch=80, words_per_minute=300)
    assert digest(speak(SHORT, voice=voice)) == alone


def test_another_process_says_the_same_samples():
    code = (
        "import hashlib; from hvisk.corpora.speak import speak;"
        f"print(hashlib.sha256(speak({SHORT!r}, voice='f1').tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    speak(LONG)
    assert digest(speak(SHORT, voice="f1")) == other


def test_threads_do_not_mix_their_voices():
    calls = [(SHORT, "m1"), (LONG, "f1"), (SHORT, "f4"), (LONG, "klatt")] * 4
    expected = [digest(speak(text, voice=voice)) for text, voice in calls]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda call: digest(speak(call[0], voice=call[1])), calls)) == expected


def test_speed_and_pitch_are_obeyed():
    assert len(speak(LONG, words_per_minute=120)) > 1.3 * len(speak(LONG, words_per_minute=200))
    assert digest(speak(LONG, pitch=20)) != digest(speak(LONG, pitch=80))
    assert digest(speak(LONG, pitch_range=10)) != digest(speak(LONG, pitch_range=90))


def test_words_come_with_their_place_in_the_text_and_their_start():
    text = "Åse ønsker rødgrød med fløde, men hun får æblekage."
    audio, words = speak_words(text)
    assert [w.text for w in words] == ["Åse", "ønsker", "rødgrød", "med", "fløde", "men", "hun", "får", "æblekage"]
    assert all(text[w.begin : w.end] == w.text for w in words)
    starts = [w.start for w in words]
    assert starts == sorted(starts)
    assert starts[0] < 0.1
    assert starts[-1] < len(audio) / SAMPLE_RATE
    # The comma is a pause that belongs to the word before it.
    assert starts[5] - starts[4] > starts[4] - starts[3]


def test_a_word_starts_where_its_sound_is():
    """After the pause of a full stop, sound begins within 100 ms of the time given for the next word."""
    audio, words = speak_words("Nu. Kat.")
    assert [w.text for w in words] == ["Nu", "Kat"]
    loud = np.flatnonzero(np.abs(audio) > 0.02) / SAMPLE_RATE
    gap = np.argmax(np.diff(loud))
    assert loud[gap + 1] == pytest.approx(words[1].start, abs=0.1)


def test_a_word_is_a_value():
    assert Word("kat", 0, 3, 0.5) == Word("kat", 0, 3, 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voice": "nobody"}, r"no voice 'nobody'.*m1"),
        ({"voice": "Demonic"}, r"left out: .*Give one of"),
        ({"voice": ""}, r"no voice ''"),
        ({"voice": "../../lang/gmq/da"}, r"no voice"),
        ({"language": "xx"}, r"no language 'xx'.*da"),
        ({"language": "fo"}, r"no language 'fo'"),
        ({"words_per_minute": 20}, r"words_per_minute is 20.*80 to 450"),
        ({"pitch": 100}, r"pitch is 100.*0 to 99"),
        ({"pitch_range": -1}, r"pitch_range is -1"),
    ],
)
def test_what_cannot_be_spoken_is_named_with_what_can(arguments, message):
    with pytest.raises(CorpusError, match=message):
        speak(SHORT, **arguments)


@pytest.mark.parametrize("text", ["", "   ", "..."])
def test_a_text_without_sound_is_an_error(text):
    with pytest.raises(CorpusError, match="nothing to say"):
        speak(text)


def test_data_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    loader = module._loader()
    speak(SHORT)  # the names are known before the data goes
    monkeypatch.setattr(loader, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(CorpusError, match="cannot read its data"):
        speak(SHORT)
    monkeypatch.undo()
    assert len(speak(SHORT))


def test_without_the_wheel_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "espeakng_loader" else find(name))
    with pytest.raises(MissingExtra, match=r"pip install 'hvisk\[demo\]'"):
        speak(SHORT)
