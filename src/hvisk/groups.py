"""Error rates of groups of clips: by age, dialect, duration, speech rate, noise, or any column that a corpus has.

A clip whose value is missing is in the group "unknown", never left out: the groups' clips always add up to all clips.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hvisk import metrics, text
from hvisk.errors import HviskError
from hvisk.predictions import Prediction

UNKNOWN = "unknown"
NON_NATIVE = "Non-native"
MANY = 30  # values of a column beyond which nobody is shown its table unasked
FEW = 5  # different numbers beyond which they are cut into bands

# Lower bounds; a value belongs to the last band that begins at or below it. The ages are those of CoRal's data card.
AGES = (0, 25, 50)
SECONDS = (0, 2, 5, 10, 20)
LETTERS_A_SECOND = (0, 10, 13, 16)
DECIBELS = (0, 30, 40, 50)

# CoRal's speakers name one of 34 dialects; its evaluator reports these main ones and, as the tenth, "Non-native" for
# whoever was not born in Denmark (alexandrainst/coral, config/evaluation.yaml). The names are compared in lower case.
DIALECTS = {
    "Bornholmsk": ("bornholmsk",),
    "Fynsk": ("fynsk", "langelandsk", "sydfynsk", "vestfynsk (nordvest-, sydvestfynsk)"),
    "Københavnsk": ("københavnsk", "amagermål"),
    "Nordjysk": ("nordjysk", "himmerlandsk", "nørrejysk", "vendsysselsk (m. hanherred og læsø)"),
    "Sjællandsk": (
        "sjællandsk",
        "nordsjællandsk",
        "nordvestsjællandsk",
        "sydsjællandsk (sydligt sydsjællandsk)",
        "sydvestsjællandsk",
        "østsjællandsk",
    ),
    "Sydømål": ("sydømål", "lollandsk", "nordfalstersk", "sydfalstersk"),
    "Sønderjysk": (
        "sønderjysk",
        "syd for rigsgrænsen: mellemslesvisk, angelmål, fjoldemål",
        "vestlig sønderjysk (m. mandø og rømø)",
        "østligt sønderjysk (m. als)",
    ),
    "Vestjysk": ("vestjysk", "fjandbomål", "morsingmål", "sallingmål", "sydvestjysk (m. fanø)", "thybomål"),
    "Østjysk": (
        "østjysk",
        "djurslandsk (nord-, syddjurs m. nord- og sydsamsø, anholt)",
        "midtøstjysk",
        "ommersysselsk",
        "sydøstjysk",
    ),
    NON_NATIVE: ("non-native",),
}
_MAIN_DIALECT = {name: main for main, names in DIALECTS.items() for name in names}
_GENDERS = {"f": "female", "female_feminine": "female", "kvinde": "female", "woman": "female"} | {
    "m": "male",
    "male_masculine": "male",
    "mand": "male",
    "man": "male",
}
_DENMARK = {"dk", "dnk", "danmark", "denmark"}
_MISSING = {"", "nan", "null", "n/a", "unknown", "ukendt"}  # not "none": as a kind of noise it is an answer


@dataclass(frozen=True)
class Group:
    """Rates of one group as fractions, None where its references hold no words; otherwise as `metrics.Score`."""

    group: str
    clips: int
    speakers: int
    wer: float | None
    cer: float | None
    wer_interval: tuple[float, float] | None
    warning: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(
    predictions: Sequence[Prediction],
    column: str,
    seed: int = 0,
    *,
    counts: Sequence[metrics.Counts] | None = None,
) -> list[Group]:
    """Return the rates of each group of `column`, bands in their order, other groups by name, "unknown" last.

    column: one of age, gender, dialect, native, duration, rate, noise, speaker, or any key of the clips' meta. A column
    of more than 5 different numbers is cut at its quartiles. counts: those of the predictions, if they are known.
    HviskError, naming the columns that exist, where no clip has the column; no clips at all have no groups.
    """
    if not predictions:
        return []
    existing = columns(predictions)
    if column not in existing:
        raise HviskError(f"No clip has the column '{column}'. Accepted by --by: {', '.join(existing)}.")
    if counts is None:
        counts = [metrics.count(p.reference, p.hypothesis) for p in predictions]
    members: dict[str, list[int]] = {}
    labels = _labels(predictions, column)
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    found = []
    for label in sorted(members, key=_place):
        score = metrics.score(
            [counts[i] for i in members[label]], [predictions[i].speaker for i in members[label]], seed=seed
        )
        found.append(Group(label, score.clips, score.speakers, score.wer, score.cer, score.wer_interval, score.warning))
    return found


def tables(
    predictions: Sequence[Prediction],
    columns: Sequence[str] | None = None,
    seed: int = 0,
    *,
    normalise: Callable[[str], str] = text.normalise,
) -> dict[str, list[Group]]:
    """Return a table for each of the columns (`default_columns` where none are given); every clip is counted once."""
    chosen = default_columns(predictions) if columns is None else columns
    counts = [metrics.count(p.reference, p.hypothesis, normalise) for p in predictions]
    return {column: table(predictions, column, seed, counts=counts) for column in chosen}


def columns(predictions: Sequence[Prediction]) -> list[str]:
    """Return every column that at least one clip has, the built-in ones first; speaker, duration and rate always are."""
    keys = {key for p in predictions for key in p.meta}
    built_in = [name for name, needs in _NEEDS.items() if not needs or keys.intersection(needs)]
    return [*built_in, *sorted(keys.difference(built_in))]


def default_columns(predictions: Sequence[Prediction]) -> list[str]:
    """Return the columns worth a table: those with two known groups at least, and 30 at most.

    A column that a built-in one reads (country_birth, noise_level ...) is not shown a second time.
    """
    read = {need for needs in _NEEDS.values() for need in needs}
    chosen = []
    for column in columns(predictions):
        if column in _NEEDS or column not in read:
            # The numbers of a column that is no band by nature, such as a segment's, are not cut into bands unasked.
            known = set(_labels(predictions, column, cut=False)) - {UNKNOWN}
            if 2 <= len(known) <= MANY:
                chosen.append(column)
    return chosen


def _labels(predictions: Sequence[Prediction], column: str, *, cut: bool = True) -> list[str]:
    """The group of each clip."""
    if column == "noise":
        # CoRal: noise_type is what the speaker heard in the headphones, noise_level is that of the room in dB.
        types = [_known(p.meta.get("noise_type")) for p in predictions]
        if any(types):
            return [kind or UNKNOWN for kind in types]
        return [_band(_number(p.meta.get("noise_level")), DECIBELS, " dB") for p in predictions]
    if column in _BUILT_IN:
        return [_BUILT_IN[column](p) for p in predictions]
    values = [_known(p.meta.get(column)) for p in predictions]
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if cut and len(set(known)) > FEW and len(known) == sum(value is not None for value in values):
        edges = sorted({float(f"{edge:.3g}") for edge in np.quantile(known, [0.25, 0.5, 0.75])})
        return [_band(number, (-math.inf, *edges), "") for number in numbers]
    return [value or UNKNOWN for value in values]


def _age(prediction: Prediction) -> str:
    value = _known(prediction.meta.get("age"))
    years = _number(value)
    if years is None:
        return value or UNKNOWN  # a band already, as Common Voice's "twenties"
    return _band(years, AGES, "") if years <= 120 else UNKNOWN


def _gender(prediction: Prediction) -> str:
    value = (_known(prediction.meta.get("gender")) or UNKNOWN).lower()
    return _GENDERS.get(value, value)


def _native(prediction: Prediction) -> str:
    country = _known(prediction.meta.get("country_birth"))
    if country is None:
        return UNKNOWN
    return "born in Denmark" if country.lower() in _DENMARK else "born elsewhere"


def _dialect(prediction: Prediction) -> str:
    if _native(prediction) == "born elsewhere":
        return NON_NATIVE
    value = _known(prediction.meta.get("dialect"))
    return _MAIN_DIALECT.get(value.lower(), value) if value else UNKNOWN


def _duration(prediction: Prediction) -> str:
    return _band(prediction.seconds if prediction.seconds > 0 else None, SECONDS, " s")


def _rate(prediction: Prediction) -> str:
    """Letters a second of the reference; pauses count as time, and words that are spelt longer as faster."""
    letters = len(text.normalise(prediction.reference).replace(" ", ""))
    known = letters and prediction.seconds > 0
    return _band(letters / prediction.seconds if known else None, LETTERS_A_SECOND, " letters/s")


# What each built-in column is made of: columns of the clips' meta, one of which is enough, or nothing.
_NEEDS: dict[str, tuple[str, ...]] = {
    "age": ("age",),
    "gender": ("gender",),
    "dialect": ("dialect",),
    "native": ("country_birth",),
    "duration": (),
    "rate": (),
    "noise": ("noise_type", "noise_level"),
    "speaker": (),
}
_BUILT_IN: dict[str, Callable[[Prediction], str]] = {
    "age": _age,
    "gender": _gender,
    "dialect": _dialect,
    "native": _native,
    "duration": _duration,
    "rate": _rate,
    "speaker": lambda prediction: prediction.speaker or UNKNOWN,
}


def _known(value: str | int | float | None) -> str | None:
    """The value as text, None where it says that nothing is known."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers that lacks some is read as floats
    found = " ".join(str(value).split())
    return None if found.lower() in _MISSING else found


def _number(value: str | int | float | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _band(value: float | None, bounds: Sequence[float], unit: str) -> str:
    """Name the band of a value; below the first bound, and for numbers that are none, it is unknown."""
    if value is None or not math.isfinite(value) or value < bounds[0]:
        return UNKNOWN
    row = sum(value >= bound for bound in bounds)
    if row == len(bounds):
        return f"{bounds[-1]:g}{unit} and over"
    low = bounds[row - 1]
    if unit == "" and all(isinstance(bound, int) for bound in bounds):
        return f"{low}-{bounds[row] - 1}"  # whole years: the band ends with the year before the next
    return f"under {bounds[row]:g}{unit}" if row == 1 else f"{low:g} to {bounds[row]:g}{unit}"


def _place(label: str) -> tuple[int, float, str]:
    """Where a group stands in its table: bands and numbers by size, then words, the unknown last."""
    if label == UNKNOWN:
        return 2, 0.0, ""
    if label.startswith("under "):
        return 0, -math.inf, label
    # "25-49" and "2 to 5 s" stand where their first number belongs; a name that begins with a digit is a name.
    start = re.match(r"(-?[\d.]+(?:e[+-]?\d+)?)(?=$|-\d+$| to | and | s$)", label)
    first = _number(start[1]) if start else None
    return (1, 0.0, label) if first is None else (0, first, label)
