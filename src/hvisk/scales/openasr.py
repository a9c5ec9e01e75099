"""The Open ASR leaderboard's multilingual scale (huggingface/open_asr_leaderboard), applied to Danish.

Danish is not on that leaderboard: this is what its figure would be. Compounds are joined twice there, and so here: first
every stretch of words that differs and has equal letters, on both sides; then, while aligning, any one word against
several. The leaderboard tells no CER; ours is over the texts after the first step. It rounds to 2 decimals of a percent.
"""

import re
import unicodedata
from difflib import SequenceMatcher
from functools import cache

from rapidfuzz.distance import Levenshtein

from hvisk.metrics import Counts
from hvisk.predictions import Prediction
from hvisk.scales import compound, rye

VERSION = "1 (huggingface/open_asr_leaderboard d1e99b2, 2026-08-21)"
TITLE = "Open ASR leaderboard, multilingual: corpus WER, figures in words, compounds joined"

_IGNORED = "ignore time segment in scoring"
_BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]")
_PARENTHESES = re.compile(r"\([^)]+?\)")
_GROUP = re.compile(r"(\d)\s+(\d{3})\b")  # one group a figure: "1 000 000" becomes 1000 and 0, there as here
_FIGURE = re.compile(r"\d+")
_NEITHER = re.compile(r"[^\w\s]+")


def normalise(text: str) -> str:
    """Return `text` as that leaderboard compares it.

    Lower case, without what stands in brackets; marks and symbols become gaps ("e-mail" is two words); "10 000" is one
    figure; every run of digits becomes words as `rye.cardinal` has them, inside a word too ("b1" is "bet").
    """
    plain = unicodedata.normalize("NFKC", _PARENTHESES.sub("", _BRACKETS.sub("", text.lower())))
    plain = _NEITHER.sub("", "".join(map(_gap, plain)).lower())
    plain = " ".join(plain.split())
    return " ".join(_FIGURE.sub(_worded, _GROUP.sub(r"\1\2", plain)).split())


def count(prediction: Prediction) -> Counts | str:
    """Count the edits of one clip, or say why that leaderboard leaves the clip out. Joined words count as one word."""
    reference = normalise(prediction.reference)
    if not reference:
        return "no words in the reference"
    if reference == _IGNORED:
        return "marked to be ignored"
    a, b = join(reference.split(), normalise(prediction.hypothesis).split())
    found = compound.align(a, b, single=True)
    left, right = " ".join(a), " ".join(b)
    errors = Levenshtein.distance(left, right)
    return Counts(found.hits, found.substitutions, found.deletions, found.insertions, errors, len(left))


def join(a: list[str], b: list[str]) -> tuple[list[str], list[str]]:
    """Join the words of both sides wherever a stretch that differs has equal letters, spaces aside."""
    if a == b:
        return a, b
    left: list[str] = []
    right: list[str] = []
    for tag, i, i_end, j, j_end in SequenceMatcher(None, a, b).get_opcodes():
        one, other = a[i:i_end], b[j:j_end]
        if tag != "equal" and "".join(one) == "".join(other):
            one = other = ["".join(one)]
        left += one
        right += other
    return left, right


@cache
def _gap(letter: str) -> str:
    return " " if unicodedata.category(letter)[0] in "MSP" else letter


def _worded(match: re.Match[str]) -> str:
    n = int(match.group())
    return rye.cardinal(n) if n < rye.LARGEST else match.group()
