"""What becomes of a text that no one can have said: drawn again, left out, or kept and marked as doubtful.

    text -> fault? -> drawn again at rising temperatures -> the first without a fault, else the least repetitive
         -> no speech? a credit line? -> left out

Nothing is changed in silence: a segment tells its doubt and its temperature, and a transcript what it left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hvisk.behaviour import COMPRESSION, compression, loop
from hvisk.recogniser.credits import is_credit
from hvisk.recogniser.engine import Recogniser, Recognition

Doubt = Literal["", "loop", "compression", "rate", "no speech", "credits"]
LEFT_OUT: tuple[Doubt, ...] = ("no speech", "credits")

# The bounds of OpenAI's Whisper (whisper/transcribe.py); that of the compression is `behaviour.COMPRESSION`.
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)
NO_SPEECH = 0.6
LOW_SCORE = -1.0

MAX_CHARACTERS_PER_SECOND = 30  # Danish has about 15 and hardly ever above 20; read at double speed it has 30
LEAST_SECONDS = 1.0  # "Ja, det er det." in a clip that was cut closely


@dataclass(frozen=True)
class Guards:
    """Which guards are up. again: draw faulty texts again. no_speech, credits: leave such texts out."""

    again: bool = True
    no_speech: bool = True
    credits: bool = True


ALL_GUARDS = Guards()


@dataclass(frozen=True)
class Guarded:
    """A recognition, the temperature that it was drawn at (0 is the likeliest), and what is wrong with it, if anything."""

    result: Recognition
    temperature: float = 0.0
    doubt: Doubt = ""


def guard(
    recogniser: Recogniser,
    clips: Sequence[NDArray[np.float32]],
    found: Sequence[Recognition],
    guards: Guards,
    *,
    language: str = "da",
) -> list[Guarded]:
    """Return what remains of the texts that were found in clips. Drawing depends on the clip alone, never on chance."""
    kept = [Guarded(result, 0.0, fault(result)) for result in found]
    if guards.again:
        kept = [
            _again(recogniser, clip, item, language) if item.doubt else item
            for clip, item in zip(clips, kept, strict=True)
        ]
    return [_judged(item, guards) for item in kept]


def fault(result: Recognition) -> Doubt:
    """Return what shows that a text was not said: words in a loop, a text that compresses too well, too fast speech."""
    if loop(result.text.casefold().split()):
        return "loop"
    if compression(result.text) > COMPRESSION:
        return "compression"
    if len(result.text) > MAX_CHARACTERS_PER_SECOND * max(result.seconds, LEAST_SECONDS):
        return "rate"
    return ""


def _again(recogniser: Recogniser, clip: NDArray[np.float32], first: Guarded, language: str) -> Guarded:
    tried = [first]
    for temperature, result in recogniser.draw(clip, TEMPERATURES, language=language):
        tried.append(Guarded(result, temperature, fault(result)))
        if not tried[-1].doubt:
            return tried[-1]
    return min(tried, key=lambda item: (compression(item.result.text), item.temperature))


def _judged(item: Guarded, guards: Guards) -> Guarded:
    result = item.result
    if guards.credits and is_credit(result.text):
        return replace(item, doubt="credits")
    if guards.no_speech and result.text and result.no_speech_probability > NO_SPEECH and result.score < LOW_SCORE:
        return replace(item, doubt="no speech")
    return item
