"""What is no good to learn from, clip by clip: the reasons that are counted when a corpus is written.

A clip is kept whole or left out whole: audio is never cut without its text. Whether a text fits into Whisper's decoder is
asked later, by `train/batches.py`, which knows the tokeniser.
"""

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.text import normalise

MIN_SECONDS = 0.3  # a word takes longer
MAX_SECONDS = 30.0  # Whisper's window

# Characters of the normalised text, spaces and figures in words included. Danish has 3.2 of them a syllable (hvisk's own
# 3,000 sentences). The fastest of 17 languages' readers say 9.1 syllables a second and the average is 6.6 (Coupé et al.
# 2019, doi:10.1126/sciadv.aaw2594): 29 and 21 characters; Danish read aloud, pauses included, is at about 15. Beyond 30
# the text is not that of the sound. Danes swallow syllables, most in short answers: hence an allowance.
FASTEST = 30.0  # characters a second
SWALLOWED = 8  # characters that need no time at all

# So little is said in what remains when a single word was recorded with seconds of waiting around it (a "ja" in 5 s is
# a good clip, ten letters in 20 s are the beginning of a longer text).
SLOWEST = 1.0  # characters a second
WAITING = 5.0  # seconds without a word

SILENT = 8 / 32768  # from lowest to highest sample: 8 steps of 16 bits, which dither and the hum of a muted input reach
FULL_SCALE = 0.999
MAX_CLIPPED = 0.2  # share of samples at full scale; speech whose average level alone overdrives the format has so many


def why_not(text: str, audio: NDArray[np.float32], *, learnt: bool = True, silent: bool = False) -> str:
    """Return the reason to leave a clip out, in a few words, or "" for a good one. audio: 16 kHz samples.

    Reasons: "too short", "too long", "broken audio" (not mono, or not numbers), "no text",
    "no sound" (digital silence), "clipped audio", "too much text for its length", "too little text for its length".
    The last four are for clips to be learnt from: a published test keeps its odd ones, or its figures are no longer its own.
    silent: nobody speaks in the clip, and its text is empty on purpose.
    """
    seconds = len(audio) / SAMPLE_RATE
    if seconds < MIN_SECONDS:
        return "too short"
    if seconds > MAX_SECONDS:
        return "too long"
    if audio.ndim != 1 or not np.isfinite(audio).all():
        return "broken audio"
    if not text.strip() and not silent:
        return "no text"
    if not learnt:
        return ""
    if np.ptp(audio) <= SILENT:
        return "no sound"
    if np.mean(np.abs(audio) >= FULL_SCALE) > MAX_CLIPPED:
        return "clipped audio"
    if silent:
        return ""
    characters = len(normalise(text))
    if characters > FASTEST * seconds + SWALLOWED:
        return "too much text for its length"
    if characters < SLOWEST * (seconds - WAITING):
        return "too little text for its length"
    return ""
