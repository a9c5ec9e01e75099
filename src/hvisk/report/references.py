"""Published error rates of Danish recognisers, read from references.toml: each with its scale, test set, source and date.

A figure without its scale is worth nothing: the same predictions differ by ten points between the scales in use.
"""

import functools
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from hvisk.errors import HviskError

Interval = tuple[float, float]

_TABLE = {"scale", "test", "source", "date", "hardware", "note", "rows"}
_ROW = {"model", "parameters", "wer", "wer_half", "cer", "cer_half", "speed", "source", "date", "note"}


@dataclass(frozen=True)
class Reference:
    """One model on one test set and scale.

    wer, cer and their 95 % intervals are fractions (0.05 is 5 %), None where not published. parameters: None for a
    service that does not tell. speed: seconds of audio a second on `hardware`. date: of the source, ISO, "" where it
    bears none.
    """

    model: str
    parameters: int | None
    test: str
    scale: str
    wer: float | None
    cer: float | None
    wer_interval: Interval | None
    cer_interval: Interval | None
    speed: float | None
    hardware: str
    source: str
    date: str
    note: str


@functools.cache
def load() -> tuple[Reference, ...]:
    """Return every published figure that hvisk carries, in the file's order."""
    return parse((resources.files("hvisk.report") / "references.toml").read_text(encoding="utf-8"))


def parse(content: str) -> tuple[Reference, ...]:
    """Return the figures of a text in the format of references.toml; HviskError names the row that is not right."""
    try:
        tables = tomllib.loads(content).get("table", [])
    except tomllib.TOMLDecodeError as error:
        raise HviskError(f"The reference table is not TOML: {error}") from error
    found: list[Reference] = []
    for table in tables:
        place = f"The reference table '{table.get('scale')}' / '{table.get('test')}'"
        _known(place, table, _TABLE, {"scale", "test", "source", "rows"})
        for row in table["rows"]:
            place_of_row = f"{place}, {row.get('model')}"
            _known(place_of_row, row, _ROW, {"model"})
            found.append(_reference(place_of_row, table, row))
    seen: set[tuple[str, str, str]] = set()
    for reference in found:
        key = reference.scale, reference.test, reference.model
        if key in seen:
            raise HviskError(f"The reference table holds {key} twice. Name what differs in the model's name.")
        seen.add(key)
    return tuple(found)


def choose(references: Sequence[Reference], *, scale: str = "", test: str = "") -> list[Reference]:
    """Return those of one scale, of one test set, or of both; "" is any."""
    return [r for r in references if scale in ("", r.scale) and test in ("", r.test)]


def check_test_set(name: str) -> None:
    """Raise HviskError for a test set of which no figures are published; "" is none."""
    known = sorted({reference.test for reference in load()})
    if name and name not in known:
        raise HviskError(f"No figures are published for '{name}'. Accepted: {', '.join(known)}.")


def test_sets(references: Sequence[Reference], scale: str) -> list[str]:
    """Return the test sets that have figures on this scale, in the file's order."""
    return list(dict.fromkeys(r.test for r in references if r.scale == scale))


def _known(place: str, given: dict[str, Any], accepted: set[str], needed: set[str]) -> None:
    wrong, lacking = sorted(given.keys() - accepted), sorted(needed - given.keys())
    if wrong or lacking:
        said = f"unknown: {', '.join(wrong)}. " * bool(wrong) + f"missing: {', '.join(lacking)}. " * bool(lacking)
        raise HviskError(f"{place}: {said}Accepted: {', '.join(sorted(accepted))}.")


def _reference(place: str, table: dict[str, Any], row: dict[str, Any]) -> Reference:
    for name in ("wer", "cer", "wer_half", "cer_half", "speed", "parameters"):
        value = row.get(name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise HviskError(f"{place}: {name} is {value}; accepted is a number above 0, rates in per cent.")
    if "wer" not in row and "cer" not in row:
        raise HviskError(f"{place}: neither wer nor cer. One of them is what the row is for.")
    notes = " ".join(part for part in (table.get("note", ""), row.get("note", "")) if part)
    wer, wer_interval = _rate(row, "wer")
    cer, cer_interval = _rate(row, "cer")
    return Reference(
        model=row["model"],
        parameters=row.get("parameters"),
        test=table["test"],
        scale=table["scale"],
        wer=wer,
        cer=cer,
        wer_interval=wer_interval,
        cer_interval=cer_interval,
        speed=row.get("speed"),
        hardware=table.get("hardware", ""),
        source=row.get("source", table["source"]),
        date=row.get("date", table.get("date", "")),
        note=notes,
    )


def _rate(row: dict[str, Any], name: str) -> tuple[float | None, Interval | None]:
    if name not in row:
        return None, None
    rate, half = row[name] / 100, row.get(f"{name}_half", 0) / 100
    return rate, (max(0.0, rate - half), rate + half) if half else None
