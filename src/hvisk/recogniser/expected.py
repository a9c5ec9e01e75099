"""Words to expect, as somebody lists them. The service reads them too, and loads nothing that hears: hence this file."""

import re
from collections.abc import Iterable

from hvisk.errors import HviskError

MOST_WORDS = 1000
MOST_LETTERS = 60  # of an expected word


def separated(text: str) -> list[str]:
    """Return the words of a text that has commas, semicolons or line ends between them."""
    return re.split(r"[,;\n]", text)


def listed(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words that are to be expected, each once, without blanks around them. Raises HviskError for what is none."""
    found = tuple(dict.fromkeys(" ".join(word.split()) for word in words if word.strip()))
    for word in found:
        if not letters(word) or len(word) > MOST_LETTERS:
            raise HviskError(
                f"'{word[:80]}' is no word to expect: it needs a letter or digit, and {MOST_LETTERS} at most."
            )
    if len(found) > MOST_WORDS:
        raise HviskError(
            f"{len(found)} words to expect are more than {MOST_WORDS}. Give those that the recording may hold."
        )
    return found


def letters(text: str) -> str:
    """Return what is compared: letters and digits alone, without case."""
    return "".join(c for c in text.casefold() if c.isalnum())
