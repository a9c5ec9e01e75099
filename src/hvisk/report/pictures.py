"""The pictures of an evaluation: error against size and speed beside published figures, and along the levels of a suite.

Rates of different scales never share an axis, and published figures stand only beside figures of their own scale.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hvisk.report import numbers, references
from hvisk.report.evaluated import EvaluationData, System
from hvisk.report.references import Reference
from hvisk.report.scatter import Axis, Dot, Series, levels, scatter

WIDTHS = {"wide": (760, 430), "narrow": (340, 400)}  # a picture for a desk and one for a phone
Level = tuple[str, float, tuple[float, float] | None]


def pictures(data: EvaluationData, scales: Sequence[str]) -> list[dict[str, Any]]:
    """Every view of the picture: one scale, one published test set (or none), one axis, WER or CER."""
    views: list[dict[str, Any]] = []
    for scale in scales:
        tests = [data.test] if data.test else references.test_sets(data.references, scale)
        for test in tests or [""]:
            beside = references.choose(data.references, scale=scale, test=test) if test else []
            # The v3 cards give CER alone: where that is what there is to compare with, it is what is drawn.
            measure = (
                "cer" if sum(r.cer is not None for r in beside) > sum(r.wer is not None for r in beside) else "wer"
            )
            for axis in ("size", "speed"):
                view = _view(data, scale, test, beside, axis, measure, len(views))
                if view:
                    views.append(view)
    return views


def _view(
    data: EvaluationData, scale: str, test: str, beside: Sequence[Reference], axis: Axis, measure: str, number: int
) -> dict[str, Any] | None:
    dots, lacking = [], []
    for place, system in enumerate(data.systems):
        score = system.scales.get(scale, {})
        across = system.parameters if axis == "size" else system.speed.get("rtfx")
        if score.get(measure) is None:
            continue
        if not across:
            lacking.append(system.name)
            continue
        bounds = score.get(f"{measure}_interval")
        said = f"{measure.upper()} {numbers.percent(score[measure])} {numbers.interval(bounds)}".rstrip()
        about = f"{system.name}: {said}, {_across(across, axis)}, scale {scale}, evaluated here"
        interval = (bounds[0], bounds[1]) if bounds else None
        dots.append(Dot(system.name, across, score[measure], interval, place, about))
    if not dots:
        return None
    for r in beside:
        rate, bounds = (r.wer, r.wer_interval) if measure == "wer" else (r.cer, r.cer_interval)
        across = r.parameters if axis == "size" else r.speed
        if rate is None:
            continue
        if not across:
            lacking.append(r.model)
            continue
        said = f"{measure.upper()} {numbers.percent(rate)} {numbers.interval(bounds)}".rstrip()
        about = f"{r.model}: {said}, {_across(across, axis)}, scale {r.scale}, {r.test}. {r.source} ({_dated(r)})"
        dots.append(Dot(r.model, across, rate, bounds, None, about))
    title = f"{measure.upper()} on the scale {scale} against {axis}" + f", published figures on {test}" * bool(test)
    drawn = [
        (
            size,
            scatter(dots, axis=axis, measure=measure.upper(), title=title, key=f"p{number}{size}", width=w, height=h),
        )
        for size, (w, h) in WIDTHS.items()
    ]
    return {
        "scale": scale,
        "test": test,
        "axis": axis,
        "measure": measure.upper(),
        "svgs": drawn,
        "lacking": lacking,
        "published": sum(dot.own is None for dot in dots),
        "notes": list(dict.fromkeys(r.note for r in beside if r.note)),
        "hardware": ", ".join(dict.fromkeys(r.hardware for r in beside if r.speed)) if axis == "speed" else "",
    }


def _across(value: float, axis: Axis) -> str:
    return f"{value / 1e6:,.4g} million parameters" if axis == "size" else f"{value:,.4g} s of audio a second"


def _dated(reference: Reference) -> str:
    return reference.date or "undated"


def suites(systems: Sequence[System]) -> list[dict[str, Any]]:
    """The pictures of the suites `robustness` and `length`, each with all systems that have it."""
    makers = {
        "More and more noise": _noise,
        "Slower and faster": _speeds,
        "Over a telephone, in a room": _channels,
        "In long recordings": _lengths,
    }
    drawn: list[dict[str, Any]] = []
    for title, points in makers.items():
        measured = [(system.name, place, points(system.suites)) for place, system in enumerate(systems)]
        # The first level alone, the clean clips, is no picture.
        series = [
            Series(name, place, own, joined=points is not _channels) for name, place, own in measured if len(own) > 1
        ]
        if series:
            key = f"l{len(drawn)}"
            svg = levels(series, title=title, key=key, width=WIDTHS["narrow"][0])  # two beside each other on a desk
            drawn.append({"title": title, "svg": svg})
    return drawn


def _noise(found: Mapping[str, Any]) -> list[Level]:
    return _conditions(found, {"clean": "clean", "noise": "{:g} dB"})


def _channels(found: Mapping[str, Any]) -> list[Level]:
    return _conditions(found, {"clean": "clean", "telephone": "telephone", "reverberation": "room, {:g} s"})


def _speeds(found: Mapping[str, Any]) -> list[Level]:
    measured = _conditions(found, {"clean": "1×", "speed": "{:g}×"})
    return sorted(measured, key=lambda level: float(level[0].rstrip("×")))


def _conditions(found: Mapping[str, Any], labels: Mapping[str, str]) -> list[Level]:
    return [
        (labels[one["name"]].format(one["level"] or 0), one["wer"], one["interval"])
        for one in found.get("robustness", ())
        if one["name"] in labels and one["wer"] is not None
    ]


def _lengths(found: Mapping[str, Any]) -> list[Level]:
    full = [one for one in found.get("length", ()) if one["long"] is not None and one["short"] is not None]
    first: list[Level] = [("single clips", full[0]["short"], None)] if full else []
    return first + [(f"{one['minutes']:g} min", one["long"], None) for one in full]
