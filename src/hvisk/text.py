"""Danish text as the scorer sees it."""

import re
import unicodedata

NORMALISER = "hvisk-1"  # named in every score, so that two figures can be told to be comparable

# Apostrophes inside a word (det's, Lars') belong to it; the typographic ones are the same letter to a listener.
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})
_NOT_A_WORD = re.compile(r"[^\w']+|_")
_LOOSE_APOSTROPHE = re.compile(r"(?<!\w)'+|'+(?!\w)")


def normalise(text: str) -> str:
    """Return `text` as space-separated words: NFC, lower case, no punctuation.

    Letters and digits of any script stay as they are, diacritics too ("blåbær", "café"). A hyphen or slash separates
    words; an apostrophe stays inside a word and falls at its edge. Idempotent; never joins or changes a word that
    is written with the letters a-z, æ, ø and å alone.
    """
    # Lowering can decompose a letter ("İ" becomes "i" and a combining dot), hence NFC after it too.
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.translate(_APOSTROPHES)).lower())
    words = _LOOSE_APOSTROPHE.sub(" ", _NOT_A_WORD.sub(" ", lowered))
    return " ".join(words.split())


def words(text: str) -> list[str]:
    """Return the normalised words of `text`."""
    return normalise(text).split()
