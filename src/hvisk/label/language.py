"""Whether a text is Danish: common words of Danish against those of its neighbours and of what else is heard in Denmark.

A teacher that is told to write Danish writes what it hears all the same, and Norwegian and Swedish are heard in Danish
podcasts. Only words that the two languages do not share count: what stands in hvisk's Danish sentences is Danish.
"""

import functools
import importlib.resources
import tomllib
from collections.abc import Sequence

from hvisk import text
from hvisk.corpora import foreign
from hvisk.corpora.sentences import sentences

LEAST = 3  # words that are the other language's alone: "what the hell" is no English
SENTENCES = 3000  # of hvisk's, whose words are Danish whatever else they are
NEIGHBOURS = ("nb", "sv")


def danish(written: str) -> bool:
    """Return whether a text is Danish, or says too little to tell.

    It is not where LEAST words of it are another language's alone, and more than are Danish alone.
    """
    words = text.words(written)
    return not any(_is(language, words) for language in foreign.LANGUAGES)


def _is(language: str, words: Sequence[str]) -> bool:
    other, own = _lists(language)
    theirs = sum(word in other for word in words)
    return theirs >= LEAST and theirs > sum(word in own for word in words)


@functools.cache
def _lists(language: str) -> tuple[frozenset[str], frozenset[str]]:
    """Words of a language that are not Danish, and of Danish that are not its."""
    own, other = set(_common()["danish"]), {word.lower() for word in foreign.words(language)}
    if language in NEIGHBOURS:
        other |= _common()[language]
    else:
        own |= _common()["shared"]
    said = (word for sentence in sentences("train", SENTENCES) for word in text.words(sentence))
    return frozenset(other - {*_common()["danish"], *_common()["shared"], *said}), frozenset(own - other)


@functools.cache
def _common() -> dict[str, frozenset[str]]:
    source = (importlib.resources.files("hvisk.label") / "language.toml").read_text(encoding="utf-8")
    return {name: frozenset(words.split()) for name, words in tomllib.loads(source).items()}
