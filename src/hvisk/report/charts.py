"""The learning curve as SVG: error rates above, loss below, over one axis of minutes and steps.

Drawn here rather than by a plotting library, because the page must carry nothing but itself and follow the reader's
dark or light mode: colours are classes of the page's style sheet.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from hvisk.report import numbers

LEFT, RIGHT = 46, 84  # pixels beside the panels: tick labels; the names at the lines' ends
PANEL_TITLE, PANEL_GAP = 26, 22
LABEL_HEIGHT = 15  # pixels that a line of text needs
MOST_DOTS = 60  # more would run together


@dataclass(frozen=True)
class Point:
    """One look at the model during training: rates as fractions (0.05 is 5 %), None where not measured."""

    step: int
    minutes: float
    loss: float | None = None
    wer: float | None = None
    cer: float | None = None


@dataclass(frozen=True)
class _Line:
    name: str
    css: str
    points: list[tuple[Point, float]]


def learning_curve(
    points: Sequence[Point], *, baseline: tuple[str, float] | None = None, width: int, key: str
) -> Markup | None:
    """Return an <svg>, `width` pixels wide in its own units, or None where no point holds a finite rate or loss.

    baseline: a name and a rate, drawn as a dashed level line. key: makes the ids of its title and description unique.
    """
    points = sorted(points, key=lambda point: point.step)
    wer = _Line("WER", "wer", _finite((point, point.wer) for point in points))
    cer = _Line("CER", "cer", _finite((point, point.cer) for point in points))
    loss = _Line("loss", "loss", _finite((point, point.loss) for point in points))
    drawn = [point for line in (wer, cer, loss) for point, _ in line.points]
    if not drawn:
        return None
    by_time = max(point.minutes for point in drawn) > 0
    last = max(point.minutes if by_time else float(point.step) for point in drawn) or 1.0

    def across(value: float) -> float:
        return LEFT + (width - LEFT - RIGHT) * value / last

    def place(point: Point) -> float:
        return across(point.minutes if by_time else point.step)

    height = 0
    body: list[Markup] = []
    if wer.points or cer.points:
        level = None if baseline is None or not math.isfinite(baseline[1]) else baseline
        panel = _panel("Error rate on the validation clips", [wer, cer], width, height, 200, place, level)
        body, height = [*body, panel], height + PANEL_TITLE + 200 + PANEL_GAP
    if loss.points:
        panel = _panel("Training loss", [loss], width, height, 100, place, None)
        body, height = [*body, panel], height + PANEL_TITLE + 100 + PANEL_GAP
    height -= PANEL_GAP - 20
    count = 8 if width > 500 else 4
    if by_time:
        minutes = [(across(tick), numbers.number(tick)) for tick in ticks(last, count)]
        body.append(_axis("minutes", minutes, height, width, marks=True))
        height += 20
        known = sorted({(point.step, point.minutes) for point in drawn})
        minute_of = [minutes for _, minutes in known]
        steps = [
            (across(float(np.interp(tick, [step for step, _ in known], minute_of))), numbers.number(tick))
            for tick in ticks(known[-1][0], count)
            if tick.is_integer()
        ]
    else:
        steps = [(across(tick), numbers.number(tick)) for tick in ticks(last, count) if tick.is_integer()]
    body.append(_axis("steps", steps, height, width, marks=not by_time))
    return Markup(
        '<svg class="curve" role="img" viewBox="0 0 {width} {height}" aria-labelledby="{key}-title {key}-desc">'
        '<title id="{key}-title">Learning curve</title><desc id="{key}-desc">{words}</desc>{body}</svg>'
    ).format(width=width, height=height + 8, key=key, words=_in_words([wer, cer, loss]), body=Markup("").join(body))


def ticks(high: float, count: int) -> list[float]:
    """Return at most `count` + 1 round numbers, evenly spaced, from 0 to at most `high`."""
    if high <= 0:
        return [0.0]
    step = next_round(high / count)
    return [round(i * step, 10) for i in range(int(high / step + 1e-9) + 1)]


def next_round(value: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is not below `value` (above 0)."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= value * (1 - 1e-9))


def _finite(pairs: Iterable[tuple[Point, float | None]]) -> list[tuple[Point, float]]:
    """A run that diverged logs nan: nothing to draw, and no reason to draw nothing else."""
    return [(point, value) for point, value in pairs if value is not None and math.isfinite(value)]


def _panel(
    title: str,
    lines: list[_Line],
    width: int,
    top: int,
    height: int,
    place: Callable[[Point], float],
    baseline: tuple[str, float] | None,
) -> Markup:
    rate = lines[0].name == "WER"
    values = [value for line in lines for _, value in line.points] + ([baseline[1]] if baseline else [])
    largest = max(values) if max(values) > 0 else 1.0
    step = next_round(largest / 4)
    high = math.ceil(largest / step - 1e-9) * step
    bottom = top + PANEL_TITLE + height

    def up(value: float) -> float:
        return bottom - height * value / high

    def show(value: float) -> str:
        return numbers.percent(value) if rate else f"{value:.3g}"

    parts = [Markup('<text class="panel" x="{}" y="{}">{}</text>').format(0, top + 14, title)]
    for tick in ticks(high, round(high / step)):
        label = f"{tick:.0%}".replace("%", " %") if rate and step >= 0.01 else show(tick)
        parts.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/><text x="{}" y="{}" class="end">{}</text>')
            .format(LEFT, width - RIGHT, LEFT - 8, _px(up(tick) + 4), label, y=_px(up(tick)))
        )  # fmt: skip
    if baseline:
        level = up(baseline[1])
        beside = level + 14 if level - (top + PANEL_TITLE) < LABEL_HEIGHT else level - 5
        parts.append(
            Markup(
                '<line class="base" x1="{}" x2="{end}" y1="{y}" y2="{y}"/><text class="end" x="{end}" y="{}">{}</text>'
            ).format(LEFT, _px(beside), f"{baseline[0]}: {show(baseline[1])}", y=_px(level), end=width - RIGHT)
        )  # fmt: skip
    ends: list[tuple[float, _Line]] = []
    for line in lines:
        if not line.points:
            continue
        dots = [(place(point), up(value), point, value) for point, value in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in dots)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(line.css, path))
        if len(dots) <= MOST_DOTS:
            for x, y, point, value in dots:
                words = f"step {numbers.number(point.step)}, {point.minutes:.1f} minutes: {line.name} {show(value)}"
                parts.append(
                    Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"><title>{}</title></circle>')
                    .format(line.css, _px(x), _px(y), words)
                )  # fmt: skip
        ends.append((dots[-1][1], line))
    ends.sort(key=lambda end: -end[0])
    lowest = bottom + LABEL_HEIGHT
    for y, line in ends:
        lowest = min(round(y), lowest - LABEL_HEIGHT)
        text = f"{line.name} {show(line.points[-1][1])}"
        parts.append(
            Markup('<text class="name {}" x="{}" y="{}">{}</text>').format(
                line.css, width - RIGHT + 8, lowest + 4, text
            )
        )
    return Markup("").join(parts)


def _axis(name: str, labels: list[tuple[float, str]], y: int, width: int, *, marks: bool) -> Markup:
    parts = [Markup('<text class="end" x="{}" y="{}">{}</text>').format(width, y, name)]
    for x, label in labels:
        if marks:
            parts.append(
                Markup('<line class="tick" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(y - 19, y - 14, x=_px(x))
            )
        parts.append(Markup('<text class="middle" x="{}" y="{}">{}</text>').format(_px(x), y, label))
    return Markup("").join(parts)


def _in_words(lines: list[_Line]) -> str:
    said = []
    for line in lines:
        if line.points:
            show = numbers.percent if line.name != "loss" else lambda value: f"{value:.3g}"
            (first, begin), (last, end) = line.points[0], line.points[-1]
            said.append(
                f"{line.name} goes from {show(begin)} at step {numbers.number(first.step)} "
                f"to {show(end)} at step {numbers.number(last.step)} ({last.minutes:.1f} minutes)."
            )
    return " ".join(said)


def _px(value: float) -> str:
    return f"{value:.1f}"
