"""Pictures of the evaluation page as SVG: error against size or speed, and error along a suite's levels.

As in `charts`, colours are classes of the style sheet. Both axes of the scatter are logarithmic: the models differ by a
factor of a thousand in size and of twenty in error.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from hvisk.report import numbers
from hvisk.report.charts import next_round, ticks

LEFT, RIGHT, TOP, BOTTOM = 50, 16, 14, 44
LETTER = 6.4  # pixels of a letter at 12 px, on average: where a label may stand is reckoned, not measured
LABEL = 14  # pixels of a line of text
OWN_COLOURS = 4  # classes own0 to own3; further systems begin anew

Axis = Literal["size", "speed"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Dot:
    """A system in the picture. across: parameters, or seconds of audio a second; rate: a fraction. own: its place among
    the evaluated systems, None for a published figure. about: the sentence that is shown on pointing at it."""

    name: str
    across: float
    rate: float
    interval: tuple[float, float] | None
    own: int | None
    about: str


def scatter(dots: Sequence[Dot], *, axis: Axis, measure: str, title: str, key: str, width: int, height: int) -> Markup:
    """Return an <svg> of error (`measure`: WER or CER) against size or speed, `width` pixels wide in its own units.

    dots: not empty, with `across` above 0. A rate of 0 has no place on a logarithmic axis and stands on its floor.
    """
    rates = [rate for dot in dots for rate in (dot.rate, *(dot.interval or ())) if rate > 0] or [0.01]
    floor, roof = max(0.001, min(rates) / 1.25), max(rates) * 1.25
    low, high = min(dot.across for dot in dots) / 1.6, max(dot.across for dot in dots) * 1.6
    bottom, right = height - BOTTOM, width - RIGHT

    def x(value: float) -> float:
        return LEFT + (right - LEFT) * math.log(value / low) / math.log(high / low)

    def y(value: float) -> float:
        return bottom - (bottom - TOP) * math.log(max(value, floor) / floor) / math.log(roof / floor)

    body = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text class="end" x="{}" y="{}">{}</text>')
        .format(LEFT, right, LEFT - 7, _px(y(tick) + 4), f"{100 * tick:g} %", y=_px(y(tick)))
        for tick in _log_ticks(floor, roof, 9)
    ] + [
        Markup('<line class="tick" x1="{x}" x2="{x}" y1="{}" y2="{}"/><text class="middle" x="{x}" y="{}">{}</text>')
        .format(bottom, bottom + 5, bottom + 19, _short(tick), x=_px(x(tick)))
        for tick in _log_ticks(low, high, 7 if width > 500 else 4)
    ]  # fmt: skip
    below = "parameters" if axis == "size" else "seconds of audio recognised in a second"
    body.append(Markup('<text class="end" x="{}" y="{}">{} →</text>').format(right, height - 6, below))
    body.append(Markup('<text class="panel" x="{}" y="{}">{}</text>').format(LEFT + 4, TOP + 2, f"{measure} ↓ better"))
    ordered = sorted(dots, key=lambda dot: dot.own is not None)  # own systems last: on top
    for dot in ordered:
        css = "ref" if dot.own is None else f"own own{dot.own % OWN_COLOURS}"
        place = x(dot.across), y(dot.rate)
        if dot.interval:
            body.append(
                Markup('<line class="{} whisker" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
                .format(css, _px(y(dot.interval[0])), _px(y(dot.interval[1])), x=_px(place[0]))
            )  # fmt: skip
        body.append(
            Markup('<circle class="{} dot" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
            .format(css, _px(place[0]), _px(place[1]), 4 if dot.own is None else 7, dot.about)
        )  # fmt: skip
    taken: list[Box] = [(x(dot.across) - 5, y(dot.rate) - 5, x(dot.across) + 5, y(dot.rate) + 5) for dot in dots]
    taken.append((LEFT, 0, LEFT + 110, TOP + 6))
    frame = (LEFT, 0, right, bottom)
    body += [_label(dot, x(dot.across), y(dot.rate), taken, frame) for dot in reversed(ordered)]
    own = "; ".join(dot.about for dot in dots if dot.own is not None) or "No evaluated system is in it."
    published = sum(dot.own is None for dot in dots)
    words = f"{own} Beside {'it' if len(dots) - published == 1 else 'them'}, {published} published figures."
    return Markup(
        '<svg class="curve scatter" role="img" viewBox="0 0 {width} {height}" aria-labelledby="{key}-t {key}-d">'
        '<title id="{key}-t">{title}</title><desc id="{key}-d">{words}</desc>{body}</svg>'
    ).format(width=width, height=height, key=key, title=title, words=words, body=Markup("").join(body))


@dataclass(frozen=True)
class Series:
    """One system's rates at the levels of a suite, each with its interval, None where not known. joined: by a line."""

    name: str
    own: int
    points: Sequence[tuple[str, float, tuple[float, float] | None]]
    joined: bool = True


def levels(series: Sequence[Series], *, title: str, key: str, width: int, height: int = 230) -> Markup:
    """Return an <svg> of WER along the levels of a suite, in the order given and evenly spaced; levels by their label."""
    names = list(dict.fromkeys(label for one in series for label, _, _ in one.points))
    largest = max((b for one in series for _, rate, i in one.points for b in (rate, *(i or ()))), default=0.0) or 0.01
    step = next_round(largest / 4)
    top = math.ceil(largest / step - 1e-9) * step
    bottom, right = height - 26, width - RIGHT

    def x(label: str) -> float:
        return LEFT + (right - LEFT) * (names.index(label) + 0.5) / len(names)

    def y(rate: float) -> float:
        return bottom - (bottom - TOP) * rate / top

    body = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text class="end" x="{}" y="{}">{}</text>')
        .format(LEFT, right, LEFT - 7, _px(y(tick) + 4), f"{100 * tick:g} %", y=_px(y(tick)))
        for tick in ticks(top, round(top / step))
    ]  # fmt: skip
    body += [
        Markup('<text class="middle" x="{}" y="{}">{}</text>').format(_px(x(label)), height - 6, label)
        for label in names
    ]
    for one in series:
        css = f"own{one.own % OWN_COLOURS}"
        path = " ".join(f"{x(label):.1f},{y(rate):.1f}" for label, rate, _ in one.points)
        if one.joined:
            body.append(Markup('<polyline class="line {}" points="{}"/>').format(css, path))
        for label, rate, interval in one.points:
            if interval:
                body.append(
                    Markup('<line class="own {} whisker" x1="{x}" x2="{x}" y1="{}" y2="{}"/>')
                    .format(css, _px(y(interval[0])), _px(y(interval[1])), x=_px(x(label)))
                )  # fmt: skip
            about = f"{one.name}, {label}: WER {numbers.percent(rate)} {numbers.interval(interval)}".rstrip()
            body.append(
                Markup('<circle class="own {} dot" cx="{}" cy="{}" r="4"><title>{}</title></circle>')
                .format(css, _px(x(label)), _px(y(rate)), about)
            )  # fmt: skip
    words = " ".join(
        f"{one.name}: {', '.join(f'{label} {numbers.percent(rate)}' for label, rate, _ in one.points)}."
        for one in series
    )
    return Markup(
        '<svg class="curve levels" role="img" viewBox="0 0 {width} {height}" aria-labelledby="{key}-t {key}-d">'
        '<title id="{key}-t">{title}</title><desc id="{key}-d">{words}</desc>{body}</svg>'
    ).format(width=width, height=height, key=key, title=title, words=words, body=Markup("").join(body))


def _label(dot: Dot, x: float, y: float, taken: list[Box], frame: Box) -> Markup:
    """The name beside its dot, where it covers nothing; a published model without room goes unnamed until pointed at."""
    name = dot.name if dot.own is not None else dot.name.partition(" (")[0].rpartition("/")[2]
    long = LETTER * len(name)
    away = 10.0
    spots = [
        ("start", x + away, y + 4, x + away),
        ("end", x - away, y + 4, x - away - long),
        ("middle", x, y - away, x - long / 2),
        ("middle", x, y + away + 9, x - long / 2),
    ]
    boxes = [(left, base - LABEL + 3, left + long, base + 3) for _, _, base, left in spots]
    free = [
        number
        for number, box in enumerate(boxes)
        if box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
        if not any(_overlap(box, other) for other in taken)
    ]
    if not free and dot.own is None:
        return Markup("")
    number = free[0] if free else int(boxes[0][2] > frame[2])
    anchor, at, base, _ = spots[number]
    taken.append(boxes[number])
    css = "ref" if dot.own is None else f"own own{dot.own % OWN_COLOURS}"
    return Markup('<text class="{} name {}" x="{}" y="{}">{}</text>').format(anchor, css, _px(at), _px(base), name)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high: 1, 2 and 5 times powers of ten, or only the powers where those are too many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in decades for step in steps]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            break
    return found


def _short(value: float) -> str:
    """1000000 as "1 M"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / size if unit != 'k' else value / 1e3:g}{numbers.SPACE}{unit}"
    return f"{value:g}"


def _px(value: float) -> str:
    return f"{value:.1f}"
