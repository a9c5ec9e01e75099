"""CoRal's two ways of scoring (alexandrainst/coral), with its text processing, quirks and all.

The quirks move rates by points and are therefore kept: replacements inside words ("bankgæld" is read as ban-kilo-æld, a
hyphen is said "minus"), years counted in thousands, "10.30" as two numbers, letters such as à as gaps between words. The
same is done to both sides. The two conventions differ in the table and in the fillers as well as in the arithmetic.
"""

import math
import re
import unicodedata
from typing import Literal

from rapidfuzz.distance import Levenshtein

from hvisk import metrics
from hvisk.metrics import Counts
from hvisk.predictions import Prediction

Convention = Literal["coral-2024", "coral-2025"]

VERSIONS = {
    "coral-2024": "1 (alexandrainst/coral 7c79e56, 2024-09-17)",
    "coral-2025": "1 (alexandrainst/coral 30300ba, 2026-07-24)",
}
TITLES = {
    "coral-2024": "CoRal until November 2025: mean of the rates of single clips, clips of 0.5 to 10 s",
    "coral-2025": "CoRal since November 2025: (S+D+I)/(S+D+H+I), which is the match error rate (MER) and never above "
    "100 %, not WER; clips of 0.5 to 10 s",
}
SHORTEST, LONGEST = 0.5, 10.0  # seconds, both exclusive

_NUMERAL = re.compile(r"\b(0|[1-9]\d{0,2}(?:(?:\.\d{3})*|\d*)(?:,\d+)?)\b")
_FILLER = re.compile(r"\b(?:eh+m*|øh+m*|h+m+|m+h+)\b", re.IGNORECASE)
_NOT_KEPT = re.compile(r"[^abcdefghijklmnopqrstuvwxyzæøå0123456789éü |]", re.IGNORECASE)

# Replaced in this order, wherever they stand, in words too.
_FIRST = {"aa": "å", "ğ": "g", "ñ": "n", "ń": "n", "è": "e", "kg": " kilo ", "μg": " mikrogram "}
_SINCE_2025 = {"hhv": "henholdsvis", "fx": "for eksempel", "f.eks.": "for eksempel"}
_LAST = {
    **{"-": " minus ", "+": " plus ", "μ": " mikro ", "§": " paragraf ", "%": " procent ", "‰": " promille "},
    **{"ú": "u", "ş": "s", "ê": "e", "ã": "a", "ë": "e", "ć": "c", "ä": "æ", "í": "i", "š": "s", "î": "i", "ě": "e"},
    **{"ð": "d", "á": "a", "ó": "o", "þ": "th", "ı": "i", "ö": "ø", "ç": "c", "ș": "s", "\u0301": " ", "\u200b": " "},
}
_REPLACEMENTS = {"coral-2024": {**_FIRST, **_LAST}, "coral-2025": {**_FIRST, **_SINCE_2025, **_LAST}}

_ONES = (
    *("nul", "en", "to", "tre", "fire", "fem", "seks", "syv", "otte", "ni", "ti", "elleve", "tolv", "tretten"),
    *("fjorten", "femten", "seksten", "sytten", "atten", "nitten"),
)
_TENS = ("tyve", "tredive", "fyrre", "halvtreds", "tres", "halvfjerds", "firs", "halvfems")
_LARGEST = 999_999_999


def normalise(text: str, convention: Convention) -> str:
    """Return `text` as CoRal's evaluation compares it: lower case, words apart by single spaces, numerals in words."""
    text = _NUMERAL.sub(lambda match: _number(match.group()), text).lower()
    if convention == "coral-2025":
        text = _FILLER.sub("", text)
    text = unicodedata.normalize("NFKC", text)
    for written, said in _REPLACEMENTS[convention].items():
        text = text.replace(written, said)
    return " ".join(_NOT_KEPT.sub(" ", text).split())


def count(prediction: Prediction, convention: Convention) -> tuple[Counts, int] | str:
    """Count the edits of one clip, with the characters inserted; or say why CoRal's filter leaves the clip out.

    A clip whose length nobody knows (0, NaN) is kept, since a file without lengths could not be scored at all otherwise;
    `unknown_length` finds such clips, so that whoever shows the score can say so.
    """
    if not prediction.reference.strip():
        return "empty reference"
    if prediction.meta.get("validated") == "rejected":
        return "rejected by validation"
    if not unknown_length(prediction):
        if prediction.seconds <= SHORTEST:
            return "0.5 s or shorter"
        if prediction.seconds >= LONGEST:
            return "10 s or longer"
    reference = normalise(prediction.reference, convention)
    if convention == "coral-2024" and not reference:
        return "no words in the reference"  # its rate would be a division by zero
    hypothesis = normalise(prediction.hypothesis, convention)
    inserted = sum(edit.tag == "insert" for edit in Levenshtein.editops(reference, hypothesis))
    return metrics.count(reference, hypothesis, normalise=str), inserted


def unknown_length(prediction: Prediction) -> bool:
    """Tell whether nobody knows how long the clip is."""
    return not math.isfinite(prediction.seconds) or prediction.seconds <= 0


def _number(numeral: str) -> str:
    whole, comma, decimals = numeral.replace(".", "").partition(",")
    said = whole if int(whole) > _LARGEST else _cardinal(int(whole))
    if comma:
        said += " komma " + " ".join("et" if digit == "1" else _ONES[int(digit)] for digit in decimals)
    return said


def _cardinal(n: int, alone: bool = True) -> str:
    """Return 0 to 999,999,999 in CoRal's words; within a larger number, 100 and 1000 are "et hundrede", "et tusind"."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        tens = _TENS[n // 10 - 2]
        return f"{_ONES[n % 10]}og{tens}" if n % 10 else tens
    if alone and n in (100, 1000):
        return "hundrede" if n == 100 else "tusind"
    unit = 100 if n < 1000 else 1000 if n < 10**6 else 10**6
    many, rest = divmod(n, unit)
    if unit == 10**6:
        said = f"{_cardinal(many, False)} {'million' if many == 1 else 'millioner'}"
    else:
        said = f"{'et' if many == 1 else _cardinal(many, False)} {'hundrede' if unit == 100 else 'tusind'}"
    if rest:
        said += f"{' og' if rest < 100 else ''} {_cardinal(rest, False)}"
    return said
