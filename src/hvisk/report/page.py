"""What was trained, on what, and how well, as one HTML file that needs nothing else: no network, no server, no build.

Texts of a corpus come from anywhere, so they are taken as hostile: the template escapes everything, and the page's
content security policy runs no script but the one whose hash it names, and loads nothing from outside.
"""

import base64
import functools
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jinja2
from markupsafe import Markup

from hvisk import __version__, files, intervals, metrics
from hvisk.report import numbers
from hvisk.report.charts import Point, learning_curve, next_round

__all__ = ["Clip", "Fact", "Point", "ReportData", "choose_clips", "render", "write"]

Group = Literal["worst", "random"]
CURVE_WIDTHS = {"wide": 760, "narrow": 340}  # pixels of the page's column on a desk, and on a phone
SHOWN_DIFFERENCES = 20  # clips of the parity proof; the rest are counted


@dataclass(frozen=True)
class Fact:
    """One line of a table of facts; facts with the same `group` ("Model", "Corpus", "Filters" ...) stand together."""

    group: str
    name: str
    value: str | int | float | None


@dataclass(frozen=True)
class Clip:
    """A clip to listen to.

    hypotheses: system name and raw text, the final system last. audio: the bytes of an encoded file that browsers play
    (FLAC, Ogg/Opus), b"" for none; mime: what it is, "audio/flac" or "audio/ogg".
    """

    id: str
    group: Group
    speaker: str
    seconds: float
    reference: str
    hypotheses: Sequence[tuple[str, str]]
    audio: bytes
    mime: str


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    scores: system name and score, from the untrained model to the final one, whose rate is the headline.
    stages: name and seconds. parity: `export.parity.Parity.to_dict()`, with "texts" added, a mapping from a clip's id
    to (text of the checkpoint, text of the export); None where nothing was exported. Any sequence may be empty.
    """

    title: str
    subtitle: str
    facts: Sequence[Fact]
    curve: Sequence[Point]
    scores: Sequence[tuple[str, metrics.Score]]
    stages: Sequence[tuple[str, float]]
    parity: Mapping[str, Any] | None
    clips: Sequence[Clip]
    recipe: Mapping[str, object]
    notes: Sequence[str]


def choose_clips(
    counts: Sequence[tuple[str, metrics.Counts]], *, worst: int, others: int, seed: int = 0
) -> list[tuple[str, Group]]:
    """Return the ids of at most `worst` clips with the most word errors, worst first, then of `others` random ones.

    counts: id and edit counts of every clip. A clip without an error is never among the worst; the random ones are
    drawn from all the rest. The order of `counts` makes no difference.
    """
    wrong = [pair for pair in counts if pair[1].errors]
    wrong.sort(key=lambda pair: (-pair[1].errors, pair[1].words, pair[0]))  # at equal errors the shorter clip is worse
    chosen = [name for name, _ in wrong[:worst]]
    rest = sorted({name for name, _ in counts}.difference(chosen))
    drawn = random.Random(seed).sample(rest, min(others, len(rest)))
    return [(name, "worst") for name in chosen] + [(name, "random") for name in drawn]


def write(path: Path, data: ReportData) -> None:
    """Write the page, atomically."""
    files.write_text(path, render(data))


def render(data: ReportData) -> str:
    """Return the page as HTML, ready to be encoded as UTF-8."""
    template, style, script = _parts()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = template.render(
        data=data,
        headline=_headline(data.scores),
        curves=_curves(data),
        rows=_rows(data.scores),
        facts=_grouped(data.facts),
        stages=_stages(data.stages),
        parity=_parity(data.parity),
        clips=[_clip(clip) for clip in data.clips],
        metrics=metrics,
        intervals=intervals,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )
    return page.encode("utf-8", "replace").decode()  # half a surrogate pair in a corpus's JSON must not cost the report


@functools.cache
def _parts() -> tuple[jinja2.Template, str, str]:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hvisk.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "interval": numbers.interval,
        "number": numbers.number,
        "duration": numbers.duration,
        "value": numbers.value,
    }
    here = resources.files("hvisk.report")
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html.jinja"), style, script


def _headline(scores: Sequence[tuple[str, metrics.Score]]) -> dict[str, Any] | None:
    if not scores:
        return None
    name, score = scores[-1]
    wer = score.wer
    if wer is None:
        plain = "The references hold no words, so there is no rate."
    elif wer == 0:
        plain = f"Not one of {numbers.number(score.words)} words is wrong."
    elif wer < 0.02:
        plain = f"One error in every {numbers.number(round(1 / wer))} words."
    else:
        plain = f"About {numbers.number(round(100 * wer))} errors in every 100 words."
    return {"name": name, "score": score, "plain": plain, "before": scores[0] if len(scores) > 1 else None}


def _curves(data: ReportData) -> list[tuple[str, Markup]]:
    """The same curve for a desk and a phone, of which the style sheet shows one: a scaled SVG would shrink its text."""
    name, first = data.scores[0] if len(data.scores) > 1 else ("", None)
    baseline = (name, first.wer) if first is not None and first.wer is not None else None
    drawn = [(key, learning_curve(data.curve, baseline=baseline, width=w, key=key)) for key, w in CURVE_WIDTHS.items()]
    return [(key, svg) for key, svg in drawn if svg is not None]


def _rows(scores: Sequence[tuple[str, metrics.Score]]) -> dict[str, Any]:
    """Rows of the score table; positions on their common scale are in per cent of its width."""
    tops = [max(score.wer or 0.0, *(score.wer_interval or (0.0,))) for _, score in scores]
    scale = next_round(max([*tops, 0.01]))
    rows = []
    for name, score in scores:
        low, high = score.wer_interval or (score.wer, score.wer)
        spot = None
        if score.wer is not None and low is not None and high is not None:
            spot = {"at": 100 * score.wer / scale, "low": 100 * low / scale, "high": 100 * high / scale}
        rows.append({"name": name, "score": score, "spot": spot})
    warnings = dict.fromkeys(score.warning for _, score in scores if score.warning)
    return {"rows": rows, "scale": scale, "warnings": list(warnings)}


def _grouped(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    groups: dict[str, list[Fact]] = {}
    for fact in facts:
        groups.setdefault(fact.group, []).append(fact)
    return groups


def _stages(stages: Sequence[tuple[str, float]]) -> dict[str, Any]:
    longest = max((seconds for _, seconds in stages), default=0.0) or 1.0
    bars = [{"name": name, "seconds": seconds, "width": 100 * seconds / longest} for name, seconds in stages]
    return {"bars": bars, "total": sum(seconds for _, seconds in stages)}


def _parity(parity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if parity is None:
        return None
    differences = [*parity["worse"], *parity["one_token_apart"]]
    texts = parity.get("texts", {})
    shown = [
        {
            "id": difference["id"],
            "distance": difference["distance"],
            "line": _line("export", *texts[difference["id"]]) if difference["id"] in texts else None,
        }
        for difference in differences[:SHOWN_DIFFERENCES]
    ]
    return {"different": len(differences), "shown": shown, "hidden": len(differences) - len(shown)}


def _line(name: str, reference: str, hypothesis: str) -> dict[str, Any]:
    edits = metrics.align(reference, hypothesis)
    tally = {kind: sum(edit.kind == kind for edit in edits) for kind in ("equal", "substitute", "delete", "insert")}
    words = tally["equal"] + tally["substitute"] + tally["delete"]
    errors = tally["substitute"] + tally["delete"] + tally["insert"]
    return {"name": name, "edits": edits, "tally": tally, "errors": errors, "wer": errors / words if words else None}


def _clip(clip: Clip) -> dict[str, Any]:
    lines = [_line(name, clip.reference, text) for name, text in clip.hypotheses]
    sound = f"data:{clip.mime};base64,{base64.b64encode(clip.audio).decode()}" if clip.audio else None
    texts = [clip.id, clip.group, clip.speaker, clip.reference, *(text for _, text in clip.hypotheses)]
    return {
        "clip": clip,
        "lines": lines,
        "final": lines[-1] if lines else None,
        "sound": sound,
        "haystack": "\n".join(texts),
    }
