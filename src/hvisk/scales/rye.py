"""The scale of the public Danish leaderboard (Rye-A1/danish-asr-leaderboard), as its figures of June 2026 were made.

Only figures that stand alone become words, in the form that num2words 0.5.14 gives them for "da", which is not Danish
spelling ("ettusinde og nihundrede og fireogfirs"). The leaderboard has since begun to fold spelled-out numerals too, so
that its later figures are of another scale.
"""

import re
import unicodedata
from functools import cache

from hvisk import metrics
from hvisk.metrics import Counts
from hvisk.predictions import Prediction

VERSION = "1 (Rye-A1/danish-asr-leaderboard ab7c421, 2026-06-26)"
TITLE = "Danish leaderboard, June 2026: corpus WER, stand-alone figures in words, punctuation taken out"

LARGEST = 10**12  # the forms below are known to this number, exclusive; figures from it on stay figures here

_NUMERAL = re.compile(r"\d[\d.,]*")
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])['’](?=[^\W\d_])")
_KEPT_APOSTROPHE = "\0"

_ONES = (
    *("nul", "et", "to", "tre", "fire", "fem", "seks", "syv", "otte", "ni", "ti", "elleve", "tolv", "tretten"),
    *("fjorten", "femten", "seksten", "sytten", "atten", "nitten"),
)
_TENS = ("tyve", "tredive", "fyrre", "halvtreds", "treds", "halvfjerds", "firs", "halvfems")


def normalise(text: str) -> str:
    """Return `text` as the leaderboard compares it.

    NFKC, lower case; dots and commas in a figure and all other punctuation and symbols fall without a gap ("e-mail" is
    "email", "3,14" is "314"), but an apostrophe between letters stays; figures that stand alone become words.
    """
    text = _NUMERAL.sub(
        lambda match: match.group().replace(".", "").replace(",", ""), unicodedata.normalize("NFKC", text)
    )
    text = _APOSTROPHE.sub(_KEPT_APOSTROPHE, text.lower())
    if not text.isascii() or not text.replace(" ", "").isalnum():
        text = "".join(filter(_is_kept, text)).replace(_KEPT_APOSTROPHE, "'")
    return " ".join(_worded(word) if word.isdecimal() else word for word in text.split())


def count(prediction: Prediction) -> Counts | str:
    """Count the edits of one clip, or say why the leaderboard leaves the clip out."""
    reference = normalise(prediction.reference)
    if not reference:
        return "no words in the reference"
    return metrics.count(reference, normalise(prediction.hypothesis), normalise=str)


def cardinal(n: int) -> str:
    """Return `n`, 0 to `LARGEST` exclusive, as num2words 0.5.14 writes it for "da"; ValueError outside.

    The rules are read off its output, which they equal for a seventh of the numbers below a million and for samples
    above. Hundreds and thousands are glued to their number; thousands are followed by "e og", but by nothing at all from
    101,000 on; one million is "en millioner".
    """
    if not 0 <= n < LARGEST:
        raise ValueError(f"{n}; accepted: 0 to {LARGEST - 1}")
    if n < 20:
        return _ONES[n]
    if n < 100:
        one, tens = n % 10, _TENS[n // 10 - 2]
        return f"{'en' if one == 1 else _ONES[one]}og{tens}" if one else tens
    if n < 1000:
        many, rest = divmod(n, 100)
        return f"{_ONES[many]}hundrede" + (f" og {cardinal(rest)}" if rest else "")
    if n < 10**6:
        many, rest = divmod(n, 1000)
        if not rest:
            return f"{cardinal(many)}tusind"
        return f"{cardinal(many)}tusind{'e og ' if many <= 100 else ''}{cardinal(rest)}"
    unit, name = (10**6, "millioner") if n < 10**9 else (10**9, "milliarder")
    many, rest = divmod(n, unit)
    return f"{'en' if many == 1 else cardinal(many)} {name}" + (f" {cardinal(rest)}" if rest else "")


@cache
def _is_kept(letter: str) -> bool:
    return unicodedata.category(letter)[0] not in "PS"


def _worded(figure: str) -> str:
    n = int(figure)
    return cardinal(n) if n < LARGEST else figure
