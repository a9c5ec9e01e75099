"""Synthetic speech as a corpus source: Danish sentences, or other languages' pseudo-sentences, in eSpeak NG's voices.

A language is an eSpeak code, "da" or one of `foreign.LANGUAGES`, or Danish in another's pronunciation: "da@nb" is a
Norwegian reading Danish aloud, letter by letter as Norwegian is read. Speakers and sentences of the three splits are
disjoint, in every language, so that a test clip is a new voice saying something new. A part is a pure function of its
fields, on any machine and in any order.
"""

import functools
import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hvisk.corpora import foreign
from hvisk.corpora.sentences import SPLITS, sentences
from hvisk.corpora.speak import speak, voices
from hvisk.corpora.store import Utterance
from hvisk.errors import CorpusError

LICENCE = "Text: MIT, as hvisk itself. Sound: made by eSpeak NG (a GPL program; its output is not under the GPL)."

# Voices of one family share their formants, so a family is never divided: robert, rob and quincy are one, Andrea and
# antonio, steph and her sisters, pablo and pedro. What whispers, croaks, sounds like a robot or has an echo as loud as
# half the voice (Alicia, and with it Annie of its family) is left to training.
_TEST = ("Andrea", "antonio", "f1", "grandma", "m3", "quincy", "rob", "robert", "sandro", "steph", "steph2", "steph3")
_VALIDATION = ("boris", "f2", "f4", "m6", "pablo", "pedro", "shelby", "travis")

# "da@nb": Danish sentences, a Norwegian's pronunciation.
LANGUAGES = ("da", *foreign.LANGUAGES, *(f"da@{code}" for code in foreign.LANGUAGES))

RATE = (115, 150)  # words per minute, range of the speakers' own pace: unhurried, Danish read aloud is at about 150
PITCH = (40, 60)  # eSpeak's scale, 50 is the voice's own
RATE_SPREAD, PITCH_SPREAD = 0.06, 4.0  # standard deviation from clip to clip: a share of the pace; steps of pitch
QUIETEST_DB = -9.0  # a clip is between this and eSpeak's own level


@dataclass(frozen=True)
class Speaker:
    """One synthetic person: an eSpeak voice with a pace and a pitch of its own."""

    name: str
    voice: str
    words_per_minute: int
    pitch: int


@dataclass(frozen=True)
class Part:
    """`clips` clips of a split, the first of which has number `start`; becomes one shard."""

    split: str
    index: int
    start: int
    clips: int
    seed: int
    languages: tuple[str, ...]


@functools.cache
def speakers(split: str) -> tuple[Speaker, ...]:
    """Return the speakers of "train" (77), "validation" (8) or "test" (12); the same ones for every language."""
    _check_split(split)
    held_out = {"test": _TEST, "validation": _VALIDATION}
    names = held_out.get(split) or tuple(v for v in voices() if v not in _TEST and v not in _VALIDATION)
    return tuple(_speaker(voice) for voice in names)


def plan(
    split: str,
    clips: int,
    seed: int = 0,
    languages: Sequence[str] = ("da",),
    clips_per_part: int = 250,
) -> list[Part]:
    """Return the parts that make `clips` clips, each clip in one of `languages` at random.

    Raises CorpusError for an unknown split or language and for fewer than one clip.
    """
    _check_split(split)
    unknown = [code for code in languages if code not in LANGUAGES]
    if unknown or not languages:
        known = ", ".join(LANGUAGES)
        raise CorpusError(f"There are no texts in {', '.join(unknown) or 'no language'}. Give one or more of {known}.")
    if clips < 1 or clips_per_part < 1:
        raise CorpusError(f"A plan of {clips} clips in parts of {clips_per_part} is empty. Give at least 1.")
    starts = range(0, clips, clips_per_part)
    return [
        Part(split, index, start, min(clips_per_part, clips - start), seed, tuple(languages))
        for index, start in enumerate(starts)
    ]


def read(part: Part) -> Iterator[Utterance]:
    """Say the clips of a part. meta: language (Whisper's code), voice, words_per_minute, pitch, source."""
    rng = random.Random(f"{part.seed} {part.split} {part.index}")
    everyone = speakers(part.split)
    turns: list[Speaker] = []
    danish = _danish(part)
    for position in range(part.clips):
        chosen = rng.choice(part.languages)
        language, _, accent = chosen.partition("@")
        # Everyone speaks once before anyone speaks again, so that a small set has all its speakers.
        turns = turns or rng.sample(everyone, len(everyone))
        speaker = turns.pop()
        rate = round(speaker.words_per_minute * min(1.2, max(0.8, rng.gauss(1, RATE_SPREAD))))
        pitch = round(min(75, max(25, rng.gauss(speaker.pitch, PITCH_SPREAD))))
        level = 10 ** (rng.uniform(QUIETEST_DB, 0) / 20)
        number = part.start + position
        text = danish[position] if language == "da" else foreign.sentence(language, part.split, part.seed, number)
        sound = speak(text, language=accent or language, voice=speaker.voice, words_per_minute=rate, pitch=pitch)
        yield Utterance(
            id=f"synthetic-{chosen}-{part.split}-{number:06d}",
            text=text,
            speaker=speaker.name,
            audio=sound * np.float32(level),
            meta={
                "language": foreign.whisper_code(language),
                "voice": speaker.voice,
                "words_per_minute": rate,
                "pitch": pitch,
                "source": "synthetic",
            },
        )


def _danish(part: Part) -> list[str]:
    if not any(language.partition("@")[0] == "da" for language in part.languages):
        return []
    if part.split == "train":
        # Sentences may return in training, so a part need not know those before it.
        return sentences(part.split, part.clips, seed=_hash(f"{part.seed} {part.index}"))
    return sentences(part.split, part.start + part.clips, part.seed)[part.start :]


def _speaker(voice: str) -> Speaker:
    rng = random.Random(f"speaker {voice}")
    return Speaker("espeak-" + voice.replace(" ", "-"), voice, rng.randint(*RATE), rng.randint(*PITCH))


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise CorpusError(f"There is no split {split!r}. Give one of {', '.join(SPLITS)}.")
