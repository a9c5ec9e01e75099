"""What was trained, on what, and how well, as one HTML file that needs nothing else: no network, no server, no build."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from hvisk import files, intervals, metrics
from hvisk.export.parity import WordErrors
from hvisk.report import listen, numbers, templates
from hvisk.report.charts import Point, learning_curve, next_round
from hvisk.report.listen import Clip

__all__ = ["Fact", "Point", "ReportData", "render", "write"]

CURVE_WIDTHS = {"wide": 760, "narrow": 340}  # pixels of the page's column on a desk, and on a phone
SHOWN_DIFFERENCES = 20  # clips of the parity proof; the rest are counted


@dataclass(frozen=True)
class Fact:
    """One line of a table of facts; facts with the same `group` ("Model", "Corpus", "Filters" ...) stand together."""

    group: str
    name: str
    value: str | int | float | None


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    scores: system name and score, from the untrained model to the final one, whose rate is the headline.
    stages: name and seconds. parity: a parity.json, which `export.parity` wrote; None where nothing was exported.
    watched: scores of other speech, before and after, that stand beside. Any sequence may be empty.
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
    watched: Sequence[tuple[str, metrics.Score]] = ()


def write(path: Path, data: ReportData) -> None:
    """Write the page, atomically."""
    files.write_text(path, render(data))


def render(data: ReportData) -> str:
    """Return the page as HTML, ready to be encoded as UTF-8."""
    return templates.page(
        "page.html.jinja",
        styles=["page.css"],
        scripts=["clips.js"],
        data=data,
        headline=_headline(data.scores),
        curves=_curves(data),
        rows=_rows([*data.scores, *data.watched]),
        facts=_grouped(data.facts),
        stages=_stages(data.stages),
        parity=_parity(data.parity),
        clips=[listen.shown(clip) for clip in data.clips],
        metrics=metrics,
        intervals=intervals,
    )


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
    shown = [
        {
            "id": difference["id"],
            "distance": difference["distance"],
            "line": listen.line("export", difference["reference_text"], difference["exported_text"]),
        }
        for difference in differences[:SHOWN_DIFFERENCES]
    ]
    words = str(WordErrors(**parity["wer"])).replace("%", f"{numbers.SPACE}%")
    return {"different": len(differences), "shown": shown, "hidden": len(differences) - len(shown), "words": words}
