"""Pseudo-sentences in languages other than Danish, to pretrain on their synthetic voices.

Half of the words are common ones from `foreign.toml`, half come out of a chain of letter trigrams over them: they can
be pronounced, there is no end to them, and no model can guess them, so that it must listen.
"""

import functools
import importlib.resources
import random
import tomllib
from collections import defaultdict
from collections.abc import Iterator

from hvisk.corpora.sentences import split_of
from hvisk.errors import CorpusError

LANGUAGES = ("nb", "sv", "de", "nl", "en", "is", "fi")  # eSpeak's codes
_TO_WHISPER = {"nb": "no"}

MIN_WORDS, MAX_WORDS = 2, 8
MAX_CHARACTERS = 56  # under 6 s in the slowest voice
REAL_SHARE = 0.5
_LETTERS = (3, 11)  # of a made-up word
_EDGE = "^"


def whisper_code(language: str) -> str:
    """Return Whisper's code for one of eSpeak's: Bokmål, "nb", is "no"; all others here have one code."""
    return _TO_WHISPER.get(language, language)


def pseudo_sentences(language: str, seed: int = 0) -> Iterator[str]:
    """Yield sentences without end: 2 to 8 words, a capital first letter, a final mark; always the same for one seed.

    Raises CorpusError for a language that is not in LANGUAGES.
    """
    words(language)
    rng = random.Random(f"{seed} {language}")
    while True:
        yield _sentence(language, rng)


def sentence(language: str, split: str, seed: int, number: int) -> str:
    """Return the pseudo-sentence of one clip. The split decides it too: no sentence is in two splits, as for Danish."""
    rng = random.Random(f"{seed} {language} {split} {number}")
    while split_of(found := _sentence(language, rng)) != split:
        pass
    return found


@functools.cache
def words(language: str) -> tuple[str, ...]:
    """Return the common words of a language; CorpusError for one that is not in LANGUAGES."""
    if language not in LANGUAGES:
        raise CorpusError(f"There are no words in {language!r}. Give one of {', '.join(LANGUAGES)}.")
    source = (importlib.resources.files("hvisk.corpora") / "foreign.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(source)[language].split())


def _sentence(language: str, rng: random.Random) -> str:
    count = rng.randint(MIN_WORDS, MAX_WORDS)
    line = ""
    while not line or len(line) > MAX_CHARACTERS:
        line = " ".join(
            rng.choice(words(language)) if rng.random() < REAL_SHARE else _word(language, rng) for _ in range(count)
        )
    return line[0].upper() + line[1:] + rng.choices(".?!", (8, 1, 1))[0]


def _word(language: str, rng: random.Random) -> str:
    chain = _chain(language)
    while True:
        word = _EDGE * 2
        while len(word) < 3 or word[-1] != _EDGE:
            word += rng.choice(chain[word[-2:]])
        made = word.strip(_EDGE)
        if _LETTERS[0] <= len(made) <= _LETTERS[1]:
            return made


@functools.cache
def _chain(language: str) -> dict[str, list[str]]:
    """Which letters follow two letters, as often as they do in the words."""
    followers: defaultdict[str, list[str]] = defaultdict(list)
    for word in words(language):
        padded = f"{_EDGE * 2}{word.lower()}{_EDGE}"
        for i in range(len(padded) - 2):
            followers[padded[i : i + 2]].append(padded[i + 2])
    return dict(followers)
