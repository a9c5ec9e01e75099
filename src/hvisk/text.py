"""Danish text as the scorer sees it."""

import re
import unicodedata

NORMALISER = "hvisk-1"  # named in every score, so that two figures can be told to be comparable

# An apostrophe inside a word (det's) belongs to it, and the typographic ones are the same letter to a listener. A soft
# hyphen only says where a line may break.
_LETTERS = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "\u00ad": None})
# NFC leaves the marks that have no letter of their own with their base ("i̇", lower case of "İ"): they are no gap in it.
_MARKS = "\u0300-\u036f"
_NOT_A_WORD = re.compile(rf"[^\w'{_MARKS}]+|_|(?<![^\W_])(?<![{_MARKS}])[{_MARKS}]+")
_LOOSE_APOSTROPHE = re.compile(rf"(?<![\w{_MARKS}])'+|'+(?!\w)")


def normalise(text: str) -> str:
    """Return `text` as space-separated words: NFC, lower case, no punctuation.

    Letters and digits stay as they are, diacritics too ("blåbær", "café"). A hyphen or slash separates words; an
    apostrophe stays inside a word and falls at its edge; a soft hyphen falls everywhere. Idempotent; never joins or
    changes a word that is written with the letters a-z, æ, ø and å alone.
    """
    # Lowering can decompose a letter ("İ" becomes "i" and a combining dot), hence NFC after it too.
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.translate(_LETTERS)).lower())
    words = _LOOSE_APOSTROPHE.sub(" ", _NOT_A_WORD.sub(" ", lowered))
    return " ".join(words.split())


def words(text: str) -> list[str]:
    """Return the normalised words of `text`."""
    return normalise(text).split()
