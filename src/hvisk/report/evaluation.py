"""One or more evaluations of the same corpus as one HTML file that needs nothing else: `evaluated.gather`, then `write`.

Rates of different scales never share an axis, and published figures stand only beside figures of their own scale. Texts
are hostile until escaped, and the page's policy allows its own script alone, as in `page`.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hvisk import __version__, files, metrics
from hvisk.report import numbers, references
from hvisk.report.charts import next_round
from hvisk.report.evaluated import CONFUSIONS, EXAMPLES, Clip, EvaluationData, System
from hvisk.report.references import Reference
from hvisk.report.scatter import OWN_COLOURS, Axis, Dot, Series, levels, scatter

WIDTHS = {"wide": (760, 430), "narrow": (340, 400)}  # a picture for a desk and one for a phone
MOST_VALUES = 30  # a column of more values is no filter

# What each scale means, in one sentence; another scale is shown with its own title alone.
MEANINGS = {
    "wer": "Errors over words said, summed over the whole corpus, after hvisk's own Danish normaliser.",
    "coral-2024": "The mean of the clips' own rates, clips of 0.5 to 10 s: the scale of the older CoRal model cards.",
    "coral-2025": "Errors over words said plus words inserted, clips of 0.5 to 10 s: CoRal's present evaluator. It cannot "
    "exceed 100 % and is lower than a word error rate.",
    "rye-2026": "Errors over words said, with the text rules of RyeAI's open Danish leaderboard.",
    "open-asr": "Errors over words said, with the multilingual text rules of the Open ASR leaderboard.",
    "compound": "As wer, but Danish compounds may be written in one word or several.",
    "cased": "As wer, but capitals and punctuation count.",
}
PARTS = {
    "scales": "scores",
    "groups": "groups",
    "suites": "robustness suites",
    "behaviour": "behaviour",
    "words": "confusions",
}


def write(path: Path, data: EvaluationData) -> None:
    """Write the page, atomically."""
    files.write_text(path, render(data))


def render(data: EvaluationData) -> str:
    """Return the page as HTML, ready to be encoded as UTF-8."""
    template, style, script = _parts()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scales = list(dict.fromkeys(scale for system in data.systems for scale in system.scales))
    places = {clip.id: place for place, clip in enumerate(data.clips)}
    page = template.render(
        data=data,
        scales=scales,
        titles={scale: _title(data.systems, scale) for scale in scales},
        meanings=MEANINGS,
        pictures=_pictures(data, scales),
        published=_published(data.references),
        groups=_groups(data.systems),
        suites=_suites(data.systems),
        behaviour=[
            (system.name, said, _worst(system.behaviour, places))
            for system in data.systems
            if (said := _behaviour(system.behaviour, system.suites))
        ],
        words=[(system.name, _words(system.words, places)) for system in data.systems if system.words],
        clips=[_clip(clip) for clip in data.clips],
        columns=_columns(data.clips),
        missing=_missing(data.systems),
        colours=OWN_COLOURS,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    return page.encode("utf-8", "replace").decode()  # half a surrogate pair in a corpus must not cost the page


@functools.cache
def _parts() -> tuple[jinja2.Template, str, str]:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hvisk.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("percent", "interval", "number", "duration", "value")
    environment.filters |= {name: getattr(numbers, name) for name in names}
    here = resources.files("hvisk.report")
    style = "".join((here / name).read_text(encoding="utf-8") for name in ("page.css", "evaluation.css"))
    script = (here / "evaluation.js").read_text(encoding="utf-8")
    return environment.get_template("evaluation.html.jinja"), style, script


def _title(systems: Iterable[System], scale: str) -> str:
    return next(str(s.scales[scale].get("title") or scale) for s in systems if scale in s.scales)


def _missing(systems: Sequence[System]) -> list[str]:
    """One line for each part that a system lacks."""
    lines = []
    for part, title in PARTS.items():
        lacking = [system.name for system in systems if not getattr(system, part)]
        if lacking:
            whose = "" if len(systems) == 1 else f" of {', '.join(lacking)}"
            lines.append(f"Not measured, so not shown: {title}{whose}.")
    return lines


def _pictures(data: EvaluationData, scales: Sequence[str]) -> list[dict[str, Any]]:
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


def _published(found: Sequence[Reference]) -> list[dict[str, Any]]:
    """The reference table, by scale and test set."""
    tables: dict[tuple[str, str], list[Reference]] = {}
    for reference in found:
        tables.setdefault((reference.scale, reference.test), []).append(reference)
    return [
        {"scale": scale, "test": test, "rows": rows, "notes": list(dict.fromkeys(r.note for r in rows if r.note))}
        for (scale, test), rows in tables.items()
    ]


def _groups(systems: Sequence[System]) -> list[dict[str, Any]]:
    """One table a column; every system's rates on one linear scale, positions in per cent of its width."""
    tables = []
    for column in dict.fromkeys(column for system in systems for column in system.groups):
        rows: dict[str, dict[str, Any]] = {}
        rates = [group for system in systems for group in system.groups.get(column, ())]
        bounds = [b for group in rates for b in (group.get("wer"), *(group.get("wer_interval") or ())) if b is not None]
        scale = next_round(max([*bounds, 0.01]))
        for place, system in enumerate(systems):
            for group in system.groups.get(column, ()):
                row = rows.setdefault(str(group["group"]), {"group": group["group"], "marks": []})
                row |= {"clips": group.get("clips"), "speakers": group.get("speakers")}
                rate = group.get("wer")
                spot = None
                if rate is not None:
                    spot = [100 * part / scale for part in (rate, *(group.get("wer_interval") or (rate, rate)))]
                row["marks"].append({"place": place, "name": system.name, "group": group, "spot": spot})
        tables.append({"column": column, "scale": scale, "rows": list(rows.values())})
    return tables


def _suites(systems: Sequence[System]) -> list[dict[str, Any]]:
    """The pictures of the suites `robustness` and `length`, each with all systems that have it."""
    makers = {
        "More and more noise": _noise,
        "Slower and faster": _speeds,
        "Over a telephone, in a room": _channels,
        "In long recordings": _lengths,
    }
    drawn: list[dict[str, Any]] = []
    for title, points in makers.items():
        found = [(system.name, place, points(system.suites)) for place, system in enumerate(systems)]
        # The first level alone, the clean clips, is no picture.
        series = [
            Series(name, place, own, joined=points is not _channels) for name, place, own in found if len(own) > 1
        ]
        if series:
            key = f"l{len(drawn)}"
            svgs = [
                (size, levels(series, title=title, key=key + size, width=width)) for size, (width, _) in WIDTHS.items()
            ]
            drawn.append({"title": title, "svgs": svgs})
    return drawn


Level = tuple[str, float, tuple[float, float] | None]


def _noise(suites: Mapping[str, Any]) -> list[Level]:
    return _conditions(suites, {"clean": "clean", "noise": "{:g} dB"})


def _channels(suites: Mapping[str, Any]) -> list[Level]:
    return _conditions(suites, {"clean": "clean", "telephone": "telephone", "reverberation": "room, {:g} s"})


def _speeds(suites: Mapping[str, Any]) -> list[Level]:
    found = _conditions(suites, {"clean": "1×", "speed": "{:g}×"})
    return sorted(found, key=lambda level: float(level[0].rstrip("×")))


def _conditions(suites: Mapping[str, Any], labels: Mapping[str, str]) -> list[Level]:
    return [
        (labels[one["name"]].format(one["level"] or 0), one["wer"], one["interval"])
        for one in suites.get("robustness", ())
        if one["name"] in labels and one["wer"] is not None
    ]


def _lengths(suites: Mapping[str, Any]) -> list[Level]:
    found = [one for one in suites.get("length", ()) if one["long"] is not None and one["short"] is not None]
    first: list[Level] = [("single clips", found[0]["short"], None)] if found else []
    return first + [(f"{one['minutes']:g} min", one["long"], None) for one in found]


def _quiet(suites: Mapping[str, Any]) -> str:
    """What it writes where nobody speaks, in one sentence; "" where that was not tried."""
    found = suites.get("non_speech")
    if not found:
        return ""
    kinds = sorted((kind for kind in found["kinds"] if kind["spoke"] > 0), key=lambda kind: -kind["spoke"])
    worst = ", ".join(f"{kind['kind']} {100 * kind['spoke']:.0f} %" for kind in kinds[:4])
    return (
        f"Where nobody speaks ({found['clips']} clips of silence and noise), it writes something in "
        f"{100 * found['spoke']:.0f} % of the clips, {found['words_per_minute']:.1f} words a minute"
        + (f"; most of all for {worst}." if worst else ".")
    )


def _behaviour(behaviour: Mapping[str, Any], suites: Mapping[str, Any]) -> list[str]:
    """The figures in plain words."""
    sentences = [
        ("insertion_rate", "For every 100 words said, it adds {:.1f} that nobody said."),
        ("insertions_per_minute", "In a minute of audio it adds {:.1f} words."),
        ("runaway", "{:.1f} % of the clips are answered with far more words than were said."),
        ("loop", "{:.1f} % of the clips are answered with words that go round in a loop."),
        ("compressed", "{:.1f} % of the answers repeat themselves so much that they compress more than 2.4 times."),
        ("empty", "{:.1f} % of the clips in which somebody speaks get no answer at all."),
    ]
    said = []
    for name, sentence in sentences:
        if behaviour.get(name) is not None:
            said.append(sentence.format(behaviour[name] * (1 if name == "insertions_per_minute" else 100)))
    quiet = _quiet(suites)
    return [*said, quiet] if quiet else said


def _worst(behaviour: Mapping[str, Any], places: Mapping[str, int]) -> list[dict[str, Any]]:
    found = []
    for name, ids in behaviour.get("worst", {}).items():
        heard = [(identifier, places[identifier]) for identifier in ids[:EXAMPLES] if identifier in places]
        if heard:
            found.append({"name": name, "clips": heard})
    return found


def _words(words: Mapping[str, Any], places: Mapping[str, int]) -> dict[str, Any]:
    kinds = {}
    for kind in ("substitutions", "deletions", "insertions"):
        kinds[kind] = [
            {**confusion, "clips": [(i, places[i]) for i in confusion["ids"] if i in places][:EXAMPLES]}
            for confusion in words.get(kind, ())[:CONFUSIONS]
        ]
    recalls = [
        (title, words[name])
        for name, title in (("names", "names"), ("new_names", "names new to it"), ("numbers", "numbers"))
        if words.get(name)
    ]
    return {"kinds": kinds, "recalls": recalls}


def _clip(clip: Clip) -> dict[str, Any]:
    lines: list[dict[str, Any]] = []
    for name, hypothesis in clip.hypotheses:
        edits = metrics.align(clip.reference, hypothesis)
        words = sum(edit.kind != "insert" for edit in edits)
        errors = sum(edit.kind != "equal" for edit in edits)
        lines.append({"name": name, "edits": edits, "errors": errors, "wer": errors / words if words else None})
    sound = f"data:{clip.mime};base64,{base64.b64encode(clip.audio).decode()}" if clip.audio else None
    # Words where nobody speaks are as wrong as can be: such a clip has no rate, and counts as one of 100 %.
    rates = {line["name"]: line["wer"] if line["wer"] is not None else float(line["errors"] > 0) for line in lines}
    return {
        "clip": clip,
        "lines": lines,
        "sound": sound,
        "errors": json.dumps({line["name"]: line["errors"] for line in lines}),
        "rates": json.dumps({name: round(rate, 4) for name, rate in rates.items()}),
        "labels": json.dumps({"speaker": clip.speaker, **clip.labels}),
        "haystack": "\n".join([clip.id, clip.speaker, clip.reference, *(text for _, text in clip.hypotheses)]),
    }


def _columns(clips: Sequence[Clip]) -> list[tuple[str, list[str]]]:
    """Columns that the clips can be filtered by, with their values: two at least, and not so many that each is one clip."""
    values: dict[str, set[str]] = {}
    for clip in clips:
        for column, label in (("speaker", clip.speaker), *clip.labels.items()):
            values.setdefault(column, set()).update({label} - {""})
    return [(column, sorted(found)) for column, found in values.items() if 2 <= len(found) <= MOST_VALUES]
