"""Scores as a person reads them in a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvisk import files, metrics
from hvisk.errors import HviskError
from hvisk.scorers import SCALES
from hvisk.terminal import percent, talk

SCALES_IN_COMPARISON = ("wer", "coral-2024", "coral-2025", "rye-2026", "open-asr", "compound")


def paper() -> Console:
    """Return the console for results: stdout, as wide as a table needs where it is no terminal."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=160, no_color=True)


def check(scales: Sequence[str]) -> None:
    """Raise HviskError for a scale that there is not."""
    for scale in scales:
        if scale not in SCALES:
            raise HviskError(f"There is no scale '{scale}'. Accepted: {', '.join(SCALES)}.")


def only(scores: Mapping[str, Any], scales: Sequence[str]) -> dict[str, Any]:
    """Return one scores.json with these scales alone, with all where none are named."""
    kept = {name: score for name, score in scores["scales"].items() if not scales or name in scales}
    return {**scores, "scales": kept}


def names(runs: Sequence[Path]) -> list[str]:
    """Return what to call evaluations and files of predictions: their models, or their paths where those are alike."""
    found = []
    for run in runs:
        settings = files.read_json(run / "settings.json") if (run / "settings.json").exists() else {}
        found.append(str(settings.get("model") or run.stem))
    return [name if found.count(name) == 1 else str(run) for name, run in zip(found, runs, strict=True)]


def evaluation(name: str, scores: Mapping[str, Any]) -> None:
    """Print one scores.json: every scale on stdout, what must be known beside it on stderr."""
    out, behaviour, speed = paper(), scores["behaviour"], scores.get("speed", {})
    out.print(name, style="bold", markup=False, emoji=False)  # "hf:..." is no emoji
    out.print(scales(scores))
    first = next(iter(scores["scales"].values()))
    out.print(
        f"{first['clips']:,} clips of {first['speakers']:,} speakers, {first['words']:,} words on the scale "
        f"{first['scale']}: {first['substitutions']:,} substituted, {first['deletions']:,} deleted, "
        f"{first['insertions']:,} inserted"
    )
    out.print(
        f"runs on in {percent(behaviour['runaway'])} of the clips, goes in circles in {percent(behaviour['loop'])}, "
        f"says nothing in {percent(behaviour['empty'])}"
    )
    for part, title in (("names", "names"), ("new_names", "names new to it"), ("numbers", "numbers")):
        recall = scores["words"].get(part)
        if recall and recall["total"]:
            out.print(f"{percent(recall['recall'])} of {recall['total']:,} {title} recognised")
    if speed.get("rtfx"):
        out.print(f"{speed['rtfx']:.0f} times real time{measured(speed)}", markup=False, emoji=False)
    if scores["failed"]:
        talk().print(f"{scores['failed']} clips failed and count as empty; why is in their notes.", style="yellow")
    if scores.get("settings", {}).get("deterministic") is False:
        talk().print("Note: this system draws lots; another run may write other texts.", style="yellow")
    for warning in dict.fromkeys(score["warning"] for score in scores["scales"].values() if score["warning"]):
        talk().print(f"Note: {warning}", style="yellow", markup=False)


def measured(speed: Mapping[str, Any]) -> str:
    """Return when and where a speed was measured, as ", measured on ...", and nothing where that was not kept."""
    if not speed.get("measured"):
        return ""
    remembered = ", when these texts were heard first" if speed.get("from_cache") else ""
    return f", measured on {'; '.join(speed['measured'])}{remembered}"


def scales(scores: Mapping[str, Any]) -> Table:
    """Return the table of every scale of one scores.json."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    for column in ("scale", "WER", "95 %", "CER", "clips", "what it is"):
        table.add_column(column, justify="right" if column in ("WER", "CER", "clips") else "left", overflow="fold")
    for name, score in scores["scales"].items():
        table.add_row(
            name, percent(score["wer"]), between(score["wer_interval"]), percent(score["cer"]), f"{score['clips']:,}",
            score["title"],
        )  # fmt: skip
    return table


def comparison(systems: Sequence[tuple[str, Mapping[str, Any]]], wanted: Sequence[str] = SCALES_IN_COMPARISON) -> Table:
    """Return the table of several systems: WER on each scale that is wanted and there, speed and size."""
    names = [name for name in wanted if all(name in scores["scales"] for _, scores in systems)]
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("system", overflow="fold")
    for column in (*names, "CER", "× real time", "parameters"):
        table.add_column(column, justify="right")
    for name, scores in systems:
        found, speed = scores["scales"], scores.get("speed", {})
        rates = [f"{percent(found[scale]['wer'])}\n{between(found[scale]['wer_interval'])}".strip() for scale in names]
        rtfx, size = speed.get("rtfx"), speed.get("parameters")
        table.add_row(
            Text(name), *rates, percent(found[names[0]]["cer"]) if names else "-", f"{rtfx:.0f}" if rtfx else "-",
            f"{size / 1e6:.1f} M" if size else "-",
        )  # fmt: skip
    return table


def between(interval: Sequence[float] | None) -> str:
    """Return an interval of shares as "[3.9, 4.4]" in percent, nothing where there is none."""
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""


def coloured(reference: str, hypothesis: str) -> Text:
    """Return what was heard, against what was said: red where it differs, struck through what is missing."""
    line = Text()
    for edit in metrics.align(reference, hypothesis):
        if edit.kind == "equal":
            line.append(edit.hypothesis)
        elif edit.kind == "delete":
            line.append(f"({edit.reference})", style="red strike")
        else:
            line.append(edit.hypothesis, style="bold red")
        line.append(" ")
    line.rstrip()
    return line
