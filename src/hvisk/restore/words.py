"""The guarantee: punctuation and casing may be put into a text, and its words stay what they are, whoever was asked.

    read(text, answer)    what somebody made of a text -> the text with those marks and capitals that can be believed
    put(text, labels)     one label a word -> the text with them
    unchanged(a, b)       whether b is a with nothing but marks and capitals put in: asked again of all that is written

A text is always rebuilt of its own letters; of an answer nothing but capitals and marks is ever taken. What the text has
of its own (a capital, a mark, a hyphen, an apostrophe, a figure) is evidence of its writer, and is never taken away.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

from hvisk import text as danish
from hvisk.text import MARKS

ENDS = ".?!"  # after these a sentence begins

# The share of a text's boundaries that an answer with other words must have right: one wrong word of eight is mended, one
# of six is not. An answer that is wrong at either end is none: its last mark would stand after another word.
ENOUGH = 0.75

_EDGES = re.compile(r"((?:[^\w\s]|_)*)(.*?)((?:[^\w\s]|_)*)", re.DOTALL)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'"})


@dataclass(frozen=True)
class Label:
    """What is put to a word. form: the word, cased; letters other than the word's are ignored. mark: one of MARKS, or ""."""

    form: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Verdict:
    """What came of an answer. text: the restored text, "" where it was rejected; reason: why it was, or what was mended."""

    text: str
    how: Literal["exact", "repaired", "rejected"]
    reason: str = ""


def read(text: str, answer: str) -> Verdict:
    """Return `text` with the marks and capitals that `answer` gives it, if the answer is that text.

    "exact" is an answer with the same words in the same order. In one with other words, a mark counts where the words on
    both sides of it are the text's and neighbours there too, and a capital likewise; it is "repaired" if both ends
    of the text are right and ENOUGH of the boundaries between its words. Anything else is "rejected".
    """
    tokens = text.split()
    own = [_key(token) for token in tokens]
    said = _said(answer, {token for token in tokens if not _core(token)})
    keys = [_key(form) for form, _ in said]
    if not own or not keys:
        return Verdict("", "rejected", "no words")
    if keys == own:
        return Verdict(put(text, [Label(form, mark) for form, mark in said]), "exact")
    at: dict[int, int] = {-1: -1, len(own): len(keys)}  # the ends of both are each other's
    for block in Levenshtein.opcodes(own, keys):
        if block.tag == "equal":
            at.update(zip(range(block.src_start, block.src_end), range(block.dest_start, block.dest_end), strict=True))
    believed = [place - 1 in at and at.get(place) == at[place - 1] + 1 for place in range(len(own) + 1)]
    other = Levenshtein.distance(own, keys)
    reason = f"{other} of {len(own)} words differ"
    if not (believed[0] and believed[-1] and sum(believed) >= ENOUGH * len(believed)):
        return Verdict("", "rejected", reason)
    labels = [
        Label(said[at[i]][0] if believed[i] else "", said[at[i]][1] if believed[i + 1] else "") for i in range(len(own))
    ]
    return Verdict(put(text, labels), "repaired", reason)


def put(text: str, labels: Sequence[Label]) -> str:
    """Return `text` with one label put to each of its words, which are what white space separates.

    A word that has one of MARKS keeps it and gets no other. One after a mark of ENDS that was put begins with a capital, unless
    its label has a form without: "Hvad? sagde han"; a full stop before such a word is none, and is not put. Where a mark would
    make another word of an abbreviation ("hr.") or a figure, these get none.
    """
    tokens = text.split()
    written = _put(tokens, labels)
    if unchanged(text, written):
        return written
    careful = [Label(label.form) if _dotted(token) else label for token, label in zip(tokens, labels, strict=True)]
    written = _put(tokens, careful)
    return written if unchanged(text, written) else " ".join(tokens)


def unchanged(text: str, restored: str) -> bool:
    """Whether `restored` is `text`, word for word and letter for letter, but for capitals and one mark after a word.

    What a scorer reads is then the same too, which is asked besides: it knows what marks and capitals can make of a word.
    """
    before, after = text.split(), restored.split()
    return (
        len(before) == len(after)
        and all(map(_same, before, after))
        and danish.plain(text) == danish.plain(restored)
        and danish.normalise(text) == danish.normalise(restored)
    )


def bare(text: str) -> str:
    """Return a text with punctuation as one without: lower case, no marks at the edges of words, nothing but words.

    The dot of a figure that is not the last word ("den 8. maj") and that of a listed abbreviation are no punctuation, and stay.
    """
    tokens = text.split()
    kept: list[str] = []
    for place, token in enumerate(tokens):
        core = _core(token)
        if not core:
            continue
        last = place == len(tokens) - 1
        own = ""
        if f"{core}." in token and _dotted(token) and not (core[-1].isdigit() and last):
            own = "."
        elif core[-1] in "sxzSXZ" and f"{core}'" in token and not token.startswith("'"):
            own = "'"  # "Niels' bil"
        kept.append(core + own)
    return " ".join(kept).lower()


def spelled(text: str) -> list[tuple[str, str]]:
    """Return the words of a text as they are spelled, without the signs at their edges, and the mark after each."""
    return _said(text, set())


def finished(text: str) -> bool:
    """Whether a text has its punctuation and casing already: it begins with a capital or a figure and ends with one of ENDS."""
    ending = text.rstrip("\"'»”’)] ")
    first = next((letter for letter in text if letter.isalnum()), "")
    return bool(first) and ending[-1:] in tuple(ENDS) and (first != first.lower() or first.isdigit())


def capital(word: str) -> str:
    """Return the word with its first letter as a capital, if it begins with a letter; "8-årig" does not."""
    return word[:1].upper() + word[1:] if len(word[:1].upper()) == 1 else word


def _put(tokens: Sequence[str], labels: Sequence[Label]) -> str:
    written: list[str] = []
    ended = ""
    for place, (token, label) in enumerate(zip(tokens, labels, strict=True)):
        before, core, after = _edges(token)
        core = _cased(core, _core(label.form))
        if ended == "." or (
            ended and not label.form
        ):  # after the other two a small letter may be meant: "Hvad? sagde han"
            core = capital(core)
        mark = label.mark if label.mark in MARKS and not set(MARKS) & set(after) else ""
        follows = labels[place + 1].form if place + 1 < len(labels) else ""
        if mark == "." and follows[:1].islower():
            mark = ""  # no full stop, but the dot of an abbreviation or an ordinal, and that is the text's own matter
        ended = mark if mark in ENDS else ""
        written.append(before + core + after + mark)
    return " ".join(written)


def _dotted(token: str) -> bool:
    """Whether a dot after the word would make another word of it: a figure, an abbreviation."""
    core = _core(token)
    dotted = f"{core}.".lower()
    return any(letter.isdigit() for letter in core) or dotted in danish.WITH_DOTS or dotted in danish.BEFORE_NUMBER


def _said(answer: str, signs: set[str]) -> list[tuple[str, str]]:
    """The words of an answer with the mark after each; a mark that stands alone is the one of the word before it.

    signs: those words of the text that have no letter or figure ("&"); any other such word of an answer is left out.
    """
    found: list[tuple[str, str]] = []
    for token in answer.split():
        _, core, after = _edges(token)
        if not core and token not in signs:
            if found and not found[-1][1]:
                found[-1] = (found[-1][0], _mark(token))
            continue
        found.append((core or token, _mark(after) if core else ""))
    return found


def _mark(edge: str) -> str:
    return next((letter for letter in edge if letter in MARKS), "")


def _edges(token: str) -> tuple[str, str, str]:
    match = _EDGES.fullmatch(token)
    assert match is not None
    before, core, after = match.groups()
    return (before, core, after) if core else ("", "", token)


def _core(token: str) -> str:
    return _edges(token)[1]


def _key(token: str) -> str:
    """What two spellings of one word share: casing, the kind of apostrophe and how letters are composed are no matter."""
    return unicodedata.normalize("NFC", (_core(token) or token).translate(_APOSTROPHES)).lower()


def _cased(word: str, form: str) -> str:
    """The word with the capitals that `form` has in the same places."""
    if len(word) != len(form):
        return word
    return "".join(theirs if theirs == _upper(ours) else ours for ours, theirs in zip(word, form, strict=True))


def _upper(letter: str) -> str:
    raised = letter.upper()
    return raised if len(raised) == 1 and raised.lower() == letter.lower() else letter


def _same(token: str, restored: str) -> bool:
    if len(restored) == len(token) + 1 and restored[-1] in MARKS:
        restored = restored[:-1]
    return len(token) == len(restored) and all(b in (a, _upper(a)) for a, b in zip(token, restored, strict=True))
