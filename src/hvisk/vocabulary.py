"""Which words go wrong, and where to hear them: confusions, names and numbers.

Words are those of the Danish normaliser, aligned by `metrics.align`; names are found in the raw reference, by its capitals.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hvisk import metrics, text
from hvisk.predictions import Prediction

TOP = 25
EXAMPLES = 10  # ids kept for each confusion

# Capitals that are no names: I and De are pronouns and keep theirs in every sentence.
_PRONOUNS = {"i", "de", "dem", "deres"}
_ENDS = re.compile(r"[.!?:…][\"'”’»)\]]*$")  # after which a capital only says that a sentence begins
_DASHES = {"-", "–", "—"}

_SMALL = "nul|to|tre|fire|fem|seks|syv|otte|ni|ti|elleve|tolv|tretten|fjorten|femten|seksten|sytten|atten|nitten"
_TENS = "tyve|tredive|tredve|fyrre|halvtreds|tres|halvfjerds|firs|halvfems|halvanden"
_LARGE = "hundreder?|hundred|tusinder?|tusind|millioner|million|milliarder|milliard|billioner|billion"
_ORDINALS = (
    "første|tredje|fjerde|femte|sjette|syvende|ottende|niende|tiende|ellevte|tolvte|"
    "(?:tret|fjor|fem|seks|syt|at|nit)tende|tyvende|tred(?:iv|v)te|"
    "(?:fyrre|halvtredsinds|tresinds|halvfjerdsinds|firsinds|halvfemsinds)tyvende"
)
# "en" and "et" are nearly always articles, and "anden" is nearly always "other": they count inside a number alone.
_PART = rf"(?:{_ORDINALS}|{_LARGE}|{_TENS}|{_SMALL}|e[nt](?=og|hundred|tusind))"
_NUMBER = re.compile(rf"\d+|{_PART}(?:(?:og)?{_PART})*(?:oge[nt])?")


@dataclass(frozen=True)
class Confusion:
    """What was said and what was heard instead (empty where nothing was), how often, and in which clips (10 at most)."""

    reference: str
    hypothesis: str
    count: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Recall:
    """How many of some words were recognised; recall is None where there are none. missed: the most frequent, and as
    what they were heard."""

    total: int
    recognised: int
    recall: float | None
    missed: tuple[Confusion, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The most frequent confusions, and the recall of names and numbers.

    new_names: of the names alone that are not in the training texts; None where those were not given.
    """

    substitutions: tuple[Confusion, ...]
    deletions: tuple[Confusion, ...]
    insertions: tuple[Confusion, ...]
    names: Recall
    new_names: Recall | None
    numbers: Recall

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    predictions: Sequence[Prediction],
    *,
    top: int = TOP,
    seen: Collection[str] | None = None,
    normalise: Callable[[str], str] = text.normalise,
) -> Vocabulary:
    """Count confusions and recall. top: how many of each are kept. seen: the normalised words of the training texts."""
    aligned = [(p, metrics.align(p.reference, p.hypothesis, normalise)) for p in predictions]
    every = [(p.id, edit) for p, edits in aligned for edit in edits]
    named = []
    for prediction, edits in aligned:
        own = names(prediction.reference)
        if own:
            named += [(prediction.id, edit) for edit in edits if edit.reference in own]
    known = frozenset(seen or ())
    return Vocabulary(
        substitutions=_top(every, "substitute", top),
        deletions=_top(every, "delete", top),
        insertions=_top(every, "insert", top),
        names=_recall(named, top),
        new_names=None if seen is None else _recall([item for item in named if item[1].reference not in known], top),
        numbers=_recall([item for item in every if is_number(item[1].reference)], top),
    )


def names(reference: str) -> frozenset[str]:
    """Return the normalised words that are names in a raw reference: capitalised, and not because a sentence begins.

    I, De, Dem and Deres are none, nor are single letters and whatever stands at the start of a quotation. A text without
    a small initial (all capitals, or a heading) has no names to be told.
    """
    tokens = reference.split()
    if not any(token[:1].islower() for token in tokens):
        return frozenset()
    found: set[str] = set()
    for before, token in itertools.pairwise(tokens):
        if not _ENDS.search(before) and before not in _DASHES and token.lstrip("([")[:1].isupper():
            own = text.words(token)
            if not (len(own) == 1 and own[0] in _PRONOUNS):
                found.update(word for word in own if len(word) > 1)
    return frozenset(found)


def is_number(word: str) -> bool:
    """Return whether a normalised word is a Danish number: digits, a cardinal or an ordinal; "en" and "anden" are not."""
    return _NUMBER.fullmatch(word) is not None


def _recall(items: Sequence[tuple[str, metrics.Edit]], top: int) -> Recall:
    hits = sum(edit.kind == "equal" for _, edit in items)
    wrong = [(identifier, edit) for identifier, edit in items if edit.kind != "equal"]
    return Recall(len(items), hits, hits / len(items) if items else None, _most(wrong, top))


def _top(items: Sequence[tuple[str, metrics.Edit]], kind: str, top: int) -> tuple[Confusion, ...]:
    return _most([item for item in items if item[1].kind == kind], top)


def _most(items: Sequence[tuple[str, metrics.Edit]], top: int) -> tuple[Confusion, ...]:
    """The most frequent pairs, those of equal number by name: the same predictions in any order give the same list."""
    numbers: Counter[tuple[str, str]] = Counter()
    clips: dict[tuple[str, str], dict[str, None]] = {}
    for identifier, edit in items:
        pair = edit.reference, edit.hypothesis
        numbers[pair] += 1
        clips.setdefault(pair, {})[identifier] = None  # a dictionary keeps their order, and each once
    ranked = sorted(numbers, key=lambda pair: (-numbers[pair], pair))[:top]
    return tuple(Confusion(*pair, numbers[pair], tuple(clips[pair])[:EXAMPLES]) for pair in ranked)
