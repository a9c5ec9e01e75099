"""Numbers as text, one way everywhere: 4.1 %, [3.2, 5.0], 12,345, 3 min 20 s; an en dash where there is none."""

import json
import math

NONE = "–"
SPACE = "\N{NO-BREAK SPACE}"  # a number never parts from its unit at a line's end


def percent(rate: float | None) -> str:
    """Return a fraction (0.041) as "4.1 %"."""
    return NONE if rate is None or not math.isfinite(rate) else f"{100 * rate:,.1f}{SPACE}%"


def interval(bounds: tuple[float, float] | None) -> str:
    """Return two fractions as "[3.2, 5.0]", in per cent, and nothing for None."""
    return "" if bounds is None else f"[{100 * bounds[0]:,.1f},{SPACE}{100 * bounds[1]:,.1f}]"


def number(value: float | None) -> str:
    """Return a count with thousands separators, and any other number to four significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return seconds as "4.2 s", "85 s", "12 min 5 s" or "3 h 20 min"."""
    if seconds < 10:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole}{SPACE}s"
    if whole < 7200:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    return f"{whole // 3600}{SPACE}h {whole % 3600 // 60}{SPACE}min"


def value(item: object) -> str:
    """Return any plain value of a recipe or a table of facts: text as it is, lists with commas, numbers as above."""
    match item:
        case None:
            return NONE
        case str():
            return item or "(empty)"
        case bool():
            return "yes" if item else "no"
        case int() | float():
            return number(item)
        case list() | tuple():
            return ", ".join(value(part) for part in item) or "(none)"
        case _:
            return json.dumps(item, ensure_ascii=False, default=str)
