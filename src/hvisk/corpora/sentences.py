"""Danish sentences for synthetic speech: hand-written ones and those of a small grammar, in three disjoint splits.

`danish.txt` holds some 490 natural sentences, `grammar.toml` the words and patterns that make many millions more.
Which split a sentence belongs to depends on its words alone, so that no seed can carry one from training into test.
"""

import functools
import hashlib
import importlib.resources
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence

from hvisk import numerals, text
from hvisk.errors import CorpusError

SPLITS = ("train", "validation", "test")
NATURAL_SHARE = 0.35
MIN_WORDS, MAX_WORDS = 3, 10
MAX_CHARACTERS = 68  # about 5 s of the slowest voice
HELD_OUT_WORD = "tebirkes"  # every sentence with it is in the test split: no model has heard the word in training

_TEST_PERCENT, _VALIDATION_PERCENT = 10, 5
_MONTHS = (
    "januar",
    "februar",
    "marts",
    "april",
    "maj",
    "juni",
    "juli",
    "august",
    "september",
    "oktober",
    "november",
    "december",
)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SLOT = re.compile(r"\{(\w+)\}")


def sentences(split: str, count: int, seed: int = 0) -> list[str]:
    """Return `count` sentences of one split, cased and punctuated: about 35 % natural, the rest from the grammar.

    The same split and seed give the same list, and a shorter one is its beginning. In validation and test no sentence
    comes twice; in train the natural ones return in ever new order. Raises CorpusError for an unknown split.
    """
    _check(split)
    rng = random.Random(f"{seed} {split}")
    found: list[str] = []
    seen: set[str] = set()
    deck: list[str] = []
    dealt = False
    while len(found) < count:
        if not deck and (split == "train" or not dealt):
            deck, dealt = [s for s in natural() if split_of(s) == split], True
            rng.shuffle(deck)
        sentence = deck.pop() if deck and rng.random() < NATURAL_SHARE else _invent(split, rng)
        if split == "train" or sentence not in seen:
            seen.add(sentence)
            found.append(sentence)
    return found


def split_of(sentence: str) -> str:
    """Return the one split that a sentence belongs to, by a hash of its words: 85 % train, 5 % validation, 10 % test.

    Every sentence with the word "tebirkes" is in test.
    """
    words = text.plain(sentence)  # not as a scorer sees them: a new version of that must move nothing
    if HELD_OUT_WORD in words.split():
        return "test"
    percent = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big") % 100
    if percent < _TEST_PERCENT:
        return "test"
    return "validation" if percent < _TEST_PERCENT + _VALIDATION_PERCENT else "train"


@functools.cache
def natural() -> tuple[str, ...]:
    """Return the hand-written sentences."""
    return tuple(_resource("danish.txt").splitlines())


def expand(rules: Mapping[str, Sequence[str]], template: str, rng: random.Random) -> str:
    """Return `template` with every "{rule}" replaced by one of its alternatives, all the way down."""

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in _MADE:
            return _MADE[name](rng)
        return _SLOT.sub(fill, rng.choice(rules[name]))

    return _SLOT.sub(fill, template)


@functools.cache
def grammar() -> dict[str, tuple[str, ...]]:
    """Return every rule of `grammar.toml`, its tables included, with its alternatives."""
    source = tomllib.loads(_resource("grammar.toml"))
    rules: dict[str, list[str]] = {name: list(options) for name, options in source["rules"].items()}

    def add(name: str, option: str) -> None:
        rules.setdefault(name, []).append(option)

    for name, table in source["nouns"].items():
        for line in table.split("\n")[:-1]:
            article, *forms = line.split()
            endings = (f"_{article}", f"_{article}_the", "_many", "_many_the")
            for ending, form in zip(endings, forms, strict=True):
                add(name + ending, form)
    for name, table in source["adjectives"].items():
        for line in table.split("\n")[:-1]:
            for ending, form in zip(("_en", "_et", "_many"), line.split(), strict=True):
                add(name + ending, form)
    for name, table in source["verbs"].items():
        for line in table.split("\n")[:-1]:
            words = line.split()
            length = len(words) // 4  # "leder efter ledte efter ledt efter lede efter": four forms of two words
            forms = [" ".join(words[i : i + length]) for i in range(0, len(words), length)]
            for ending, form in zip(("_present", "_past", "_done", "_to"), forms, strict=True):
                add(name + ending, form)
                if ending in ("_present", "_past"):
                    first, *rest = form.split()
                    add(f"{name}{ending}_who", " ".join([first, "{who}", *rest]))
    return {name: tuple(options) for name, options in rules.items()}


def _invent(split: str, rng: random.Random) -> str:
    while True:
        sentence = expand(grammar(), "{sentence}", rng)
        sentence = sentence[0].upper() + sentence[1:]
        fits = MIN_WORDS <= len(sentence.split()) <= MAX_WORDS and len(sentence) <= MAX_CHARACTERS
        if fits and split_of(sentence) == split:
            return sentence


def _clock(rng: random.Random) -> str:
    hour = rng.randint(1, 12)
    said = "et" if hour == 1 else numerals.cardinal(hour)
    before = ("", "halv ", "kvart i ", "kvart over ", "fem minutter i ", "fem minutter over ", "ti minutter i ")
    return rng.choice((*before, "", "ti minutter over ", "tyve minutter i ", "tyve minutter over ")) + said


def _date(rng: random.Random) -> str:
    month = rng.randrange(12)
    return f"den {numerals.ordinal(1 + rng.randrange(_DAYS[month]))} {_MONTHS[month]}"


def _number(rng: random.Random) -> str:
    low, high = rng.choices(((2, 20), (21, 99), (100, 999), (1000, 9999)), (25, 45, 20, 10))[0]
    return numerals.cardinal(rng.randint(low, high))


def _price(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return (
            f"{numerals.cardinal(rng.randint(2, 99))} kroner og {numerals.cardinal(rng.choice((25, 50, 75, 95)))} øre"
        )
    return f"{_number(rng)} kroner"


_MADE: dict[str, Callable[[random.Random], str]] = {
    "number": _number,
    "number_small": lambda rng: numerals.cardinal(rng.randint(2, 99)),
    "number_few": lambda rng: numerals.cardinal(rng.randint(2, 12)),
    "price": _price,
    "year": lambda rng: numerals.year(rng.randint(1700, 2029)),
    "clock": _clock,
    "date": _date,
}


def _check(split: str) -> None:
    if split not in SPLITS:
        raise CorpusError(f"There is no split {split!r}. Give one of {', '.join(SPLITS)}.")


def _resource(name: str) -> str:
    return (importlib.resources.files("hvisk.corpora") / name).read_text(encoding="utf-8")
