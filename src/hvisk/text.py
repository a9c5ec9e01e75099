"""Danish text as the scorer sees it."""

import re
import unicodedata

from hvisk.numerals import verbalise

NORMALISER = "hvisk-2"  # named in every score, so that two figures can be told to be comparable
MARKS = ".,?!:;"  # of punctuation, as the scale `cased` counts them and `restore` puts them, one after a word

# With or without a dot, in any casing: no Danish word is spelled like these.
ALWAYS = {
    "dvs": "det vil sige",
    "ekskl": "eksklusive",
    "evt": "eventuelt",
    "feks": "for eksempel",
    "fx": "for eksempel",
    "hhv": "henholdsvis",
    "ift": "i forhold til",
    "inkl": "inklusive",
    "mhp": "med henblik på",
    "mht": "med hensyn til",
    "nr": "nummer",
    "osv": "og så videre",
    "pga": "på grund af",
    "tlf": "telefon",
    "vedr": "vedrørende",
    "vha": "ved hjælp af",
}
# Only with their dots, and no capitals but the first: without them they may be a word, a name or an acronym (hr and HR,
# dr and DR, kl and KL). Left out for having several readings: alm., eks., min., m., v., jan. and more.
WITH_DOTS = {
    "afd.": "afdeling",
    "ang.": "angående",
    "bl.a.": "blandt andet",
    "ca.": "cirka",
    "d.v.s.": "det vil sige",
    "dr.": "doktor",
    "e.Kr.": "efter kristus",
    "f.Kr.": "før kristus",
    "f.eks.": "for eksempel",
    "fr.": "fru",
    "hr.": "herr",
    "ifm.": "i forbindelse med",
    "iht.": "i henhold til",
    "jf.": "jævnfør",
    "kl.": "klokken",
    "kr.": "kroner",
    "m.fl.": "med flere",
    "m.h.t.": "med hensyn til",
    "m.m.": "med mere",
    "m.v.": "med videre",
    "mfl.": "med flere",
    "mia.": "milliarder",
    "mio.": "millioner",
    "mv.": "med videre",
    "o.l.": "og lignende",
    "o.s.v.": "og så videre",
    "p.g.a.": "på grund af",
    "pct.": "procent",
    "pr.": "per",
}
# Only right before a figure.
BEFORE_NUMBER = {
    "kl": "klokken",
    "kl.": "klokken",
    "ca": "cirka",
    "ca.": "cirka",
    "d.": "den",
    "s.": "side",
    "§": "paragraf",
}
# Sounds of hesitation. "mhm" and "åh" are answers, "øm" is a word.
_FILLER = re.compile(r"(?:[øæ]+h+m*|e+h+m*|h+m+|m+h|mm+)")

# An apostrophe inside a word (det's) belongs to it, and the typographic ones are the same letter to a listener. A soft
# hyphen only says where a line may break.
_LETTERS = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "\u00ad": None})
# NFC leaves the marks that have no letter of their own with their base ("i̇", lower case of "İ"): they are no gap in it.
_MARKS = "\u0300-\u036f"
_NOT_A_WORD = re.compile(rf"[^\w'{_MARKS}]+|_|(?<![^\W_])(?<![{_MARKS}])[{_MARKS}]+")
_LOOSE_APOSTROPHE = re.compile(rf"(?<![\w{_MARKS}])'+|'+(?!\w)")

_DIGIT = re.compile("[0-9]")
_SPACE = r"[ \u00a0\u2009\u202f]"
_EDGES = (rf"(?<![\w'.{_MARKS}])", rf"(?![\w'{_MARKS}])")


def _written(abbreviation: str) -> str:
    """The pattern of an abbreviation: the first letter of either case, spaces after inner dots, the last one optional."""
    first, *parts = re.findall(r"[^.]+", abbreviation)
    first = f"[{first[0].upper()}{first[0]}]{first[1:]}" if first[0].isalpha() else first
    return rf"\.{_SPACE}?".join([first, *parts]) + (r"\.?" if parts else r"\." if abbreviation.endswith(".") else "")


_DOTS = re.compile(_EDGES[0] + r"(?=\w{1,3}\.)(?:" + "|".join(f"({_written(a)})" for a in WITH_DOTS) + ")" + _EDGES[1])
_NUMBERED = re.compile(
    _EDGES[0]
    + "(?:"
    + "|".join(f"({_written(a)})" for a in BEFORE_NUMBER)
    + rf")(?:{_SPACE}|(?<=[.§]))(?=[0-9]+{_EDGES[1]})"
)
_SCHOOL = re.compile(rf"(?<=[0-9]\.{_SPACE})kl\.?{_EDGES[1]}(?!{_SPACE}?[0-9])")  # "3. kl." is no time of day
_SAINT = re.compile(rf"{_EDGES[0]}St\.(?={_SPACE}?[A-ZÆØÅ])")
# The first letters of what may have to be expanded, as the plain words know them: most texts have none and are done.
_HINTS = frozenset({*ALWAYS, *(a.lower().split(".")[0] for a in WITH_DOTS), "st"})


def normalise(text: str, *, fillers: bool = False) -> str:
    """Return `text` as space-separated words: NFC, lower case, no punctuation, figures and abbreviations in words.

    Figures become words as `numerals.verbalise` has it, listed abbreviations (`ALWAYS`, `WITH_DOTS`, `BEFORE_NUMBER`)
    what they stand for; with `fillers`, sounds of hesitation (øh, øhm, hm, mm, eh, ...) are dropped. Letters stay as
    they are, diacritics too ("blåbær", "café"). A hyphen or slash separates words; an apostrophe stays inside a word
    and falls at its edge; a soft hyphen falls everywhere. Idempotent; outside the listed abbreviations, fillers and
    units after a figure it never joins or changes a word written with the letters a-z, æ, ø and å alone.
    """
    bare = plain(text)
    if _DIGIT.search(bare) or not _HINTS.isdisjoint(bare.split()):
        bare = plain(_expand(_composed(text)))
        # What is a word of its own only now ("_5", "5KM") has its turn here, so that a second pass finds nothing.
        bare = " ".join(ALWAYS.get(word) or verbalise(word) for word in bare.split())
    if fillers:
        bare = " ".join(word for word in bare.split() if not _FILLER.fullmatch(word))
    return bare


def plain(text: str) -> str:
    """Return `text` as space-separated words: NFC, lower case, no punctuation; figures and abbreviations as they are.

    The part of `normalise` that no version changes: what must not move with the scorer (a split, a key) builds on it.
    """
    # Lowering can decompose a letter ("İ" becomes "i" and a combining dot), hence NFC after it.
    lowered = unicodedata.normalize("NFC", _composed(text).lower())
    return " ".join(_LOOSE_APOSTROPHE.sub(" ", _NOT_A_WORD.sub(" ", lowered)).split())


def words(text: str) -> list[str]:
    """Return the normalised words of `text`."""
    return normalise(text).split()


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.translate(_LETTERS))


def _expand(text: str) -> str:
    """Put into words what only its marks and neighbours tell: figures, and abbreviations with dots or before a figure."""
    text = _LOOSE_APOSTROPHE.sub(" ", text)
    text = _NUMBERED.sub(lambda match: f"{_said(BEFORE_NUMBER, match)} ", text)
    text = verbalise(_SCHOOL.sub("klasse", text))
    text = _DOTS.sub(lambda match: _said(WITH_DOTS, match), text)
    return _SAINT.sub("sankt ", text)


def _said(table: dict[str, str], match: re.Match[str]) -> str:
    assert match.lastindex is not None
    return list(table.values())[match.lastindex - 1]
