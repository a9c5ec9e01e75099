"""Synthetic speech by eSpeak NG, from the wheel `espeakng-loader`: text in, 16 kHz sound and word times out.

eSpeak NG is under the GPL, so it sits behind the extra `demo` and is loaded only when something is to be said.

It keeps a great deal between two utterances (the flutter of the pitch, the noise of breath, the tail of an echo) and
seeds its noise with the clock, so that the same sentence never sounds the same twice. Its API resets the noise alone.
Here the library is therefore loaded anew for each utterance, 0.3 ms, and given the same seed: the samples then
depend on the arguments only, in any process and after any other sentence. That rests on `dlclose` unloading, as it
does with glibc (measured); where a system keeps the library in memory, only words and lengths are sure to agree.
"""

import _ctypes
import ctypes
import functools
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.errors import CorpusError, require

# All of the wheel's voice variants make sound. Five of these do not make speech that one can follow; the other two draw
# their breath from C's rand(), which belongs to the whole process, so that no two calls agree.
UNUSABLE = {
    "Demonic": "the pitch is broken up until vowels are noise",
    "Marco": "an echo at 50 ms clips the sound and hides the ends of words",
    "Reed": "its noise of breath is different on every call",
    "RicishayMax": "an echo at 100 ms as loud as the voice",
    "RicishayMax2": "an echo at 150 ms as loud as the voice",
    "RicishayMax3": "an echo at 200 ms as loud as the voice",
    "caleb": "its noise of breath is different on every call",
}
NO_DICTIONARY = {"fo", "kaa", "xex"}  # listed in the wheel of 1.52, but without their pronunciation
WORDS_PER_MINUTE = (80, 450)  # what eSpeak accepts; below and above it clamps silently
MAX_PITCH = 99

# From espeak_ng/speak_lib.h
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _CHARACTERS = 2, 0x8000, 1, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_LIST_END, _WORD = 0, 1
_SEED = 1

_lock = threading.Lock()  # one library, one callback: eSpeak has no handle to hold two voices at once


@dataclass(frozen=True)
class Word:
    """A spoken word: `text[begin:end]` of the sentence, and the second at which it starts."""

    text: str
    begin: int
    end: int
    start: float


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("position", ctypes.c_int),  # characters, from 1
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def speak(
    text: str,
    *,
    language: str = "da",
    voice: str = "m1",
    words_per_minute: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
) -> NDArray[np.float32]:
    """Say `text` and return the sound, float32 (samples,) mono at 16 kHz within [-1, 1].

    language: one of `languages()`. voice: one of `voices()`. pitch and pitch_range: 0 to 99, 50 is the voice's own.
    Raises CorpusError for an unknown name, a value outside what eSpeak accepts and a text without a sound,
    MissingExtra where the wheel is not installed.
    """
    return speak_words(
        text, language=language, voice=voice, words_per_minute=words_per_minute, pitch=pitch, pitch_range=pitch_range
    )[0]


def speak_words(
    text: str,
    *,
    language: str = "da",
    voice: str = "m1",
    words_per_minute: int = 175,
    pitch: int = 50,
    pitch_range: int = 50,
) -> tuple[NDArray[np.float32], list[Word]]:
    """Say `text` as `speak` does; return the sound and the words in order, with the times eSpeak gives them."""
    _check(language, voice, words_per_minute, pitch, pitch_range)
    samples, rate, events = _synthesise(text, f"{language}+{voice}", words_per_minute, pitch, pitch_range)
    if not samples.any():
        raise CorpusError(f"eSpeak NG has nothing to say for the text {text!r}. Give a text with letters in it.")
    words = [Word(text[p : p + n], p, p + n, sample / rate) for p, n, sample in events]
    return _resample(samples, rate), words


@functools.cache
def voices() -> tuple[str, ...]:
    """Return the names of the usable voice variants, sorted; each speaks every language."""
    names = {path.name for path in (_data() / "voices" / "!v").iterdir() if path.is_file()}
    return tuple(sorted(names - set(UNUSABLE)))


@functools.cache
def languages() -> tuple[str, ...]:
    """Return the codes of the languages that eSpeak NG speaks, sorted: "da", "de", "nb", ..."""
    return tuple(sorted({path.name for path in (_data() / "lang").rglob("*") if path.is_file()} - NO_DICTIONARY))


def _check(language: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int) -> None:
    if language not in languages():
        raise CorpusError(f"eSpeak NG speaks no language {language!r}. Give one of {', '.join(languages())}.")
    if voice in UNUSABLE:
        raise CorpusError(f"The voice {voice!r} is left out: {UNUSABLE[voice]}. Give one of {', '.join(voices())}.")
    if voice not in voices():
        raise CorpusError(f"eSpeak NG has no voice {voice!r}. Give one of {', '.join(voices())}.")
    low, high = WORDS_PER_MINUTE
    if not low <= words_per_minute <= high:
        raise CorpusError(f"words_per_minute is {words_per_minute}; eSpeak NG speaks at {low} to {high}.")
    for name, value in (("pitch", pitch), ("pitch_range", pitch_range)):
        if not 0 <= value <= MAX_PITCH:
            raise CorpusError(f"{name} is {value}; eSpeak NG takes 0 to {MAX_PITCH}, and 50 is the voice's own.")


def _loader() -> Any:
    require("espeakng_loader", "demo", "make synthetic speech")
    import espeakng_loader

    return espeakng_loader


def _data() -> Path:
    return Path(_loader().get_data_path())


def _synthesise(
    text: str, voice: str, words_per_minute: int, pitch: int, pitch_range: int
) -> tuple[NDArray[np.int16], int, list[tuple[int, int, int]]]:
    """Samples, their rate, and (first character, characters, sample) of each word."""
    chunks: list[NDArray[np.int16]] = []
    events: list[tuple[int, int, int]] = []

    def receive(wave: Any, count: int, event: Any) -> int:
        if wave and count:
            chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())  # eSpeak uses its buffer again
        i = 0
        while event[i].type != _LIST_END:
            if event[i].type == _WORD:
                events.append((event[i].position - 1, event[i].length, event[i].sample))
            i += 1
        return 0

    callback = _Callback(receive)  # held here: ctypes keeps no reference for the library
    with _lock:
        library = ctypes.CDLL(_loader().get_library_path())
        try:
            rate = int(library.espeak_Initialize(_SYNCHRONOUS, 0, str(_data()).encode(), _DONT_EXIT))
            if rate <= 0:
                # eSpeak keeps the path in a fixed buffer, so that a very deep environment fails here.
                raise CorpusError(
                    f"eSpeak NG cannot read its data at {_data()}. Move the environment to a shorter path."
                )
            library.espeak_SetSynthCallback(callback)
            library.espeak_ng_SetRandSeed(ctypes.c_long(_SEED))
            if library.espeak_SetVoiceByName(voice.encode()):
                raise CorpusError(f"eSpeak NG cannot use the voice {voice!r}. Reinstall espeakng-loader.")
            for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
                library.espeak_SetParameter(parameter, value, 0)
            encoded = text.encode()
            library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, _CHARACTERS, 0, _UTF8, None, None)
            library.espeak_Synchronize()
            library.espeak_Terminate()
        finally:
            _unload(library)
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16), rate, events


def _unload(library: ctypes.CDLL) -> None:
    if sys.platform == "win32":
        _ctypes.FreeLibrary(library._handle)
    else:
        _ctypes.dlclose(library._handle)


def _resample(samples: NDArray[np.int16], rate: int) -> NDArray[np.float32]:
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    parts = [part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))]
    # The band limit overshoots where eSpeak is at full scale.
    audio: NDArray[np.float32] = np.clip(np.concatenate(parts), -1, 1).astype(np.float32, copy=False)
    return audio
