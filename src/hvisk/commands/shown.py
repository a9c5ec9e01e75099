"""Scores as a person reads them in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hvisk import metrics
from hvisk.terminal import percent

SCALES_IN_COMPARISON = ("wer", "coral-2024", "coral-2025", "rye-2026", "open-asr", "compound")


def paper() -> Console:
    """Return the console for results: stdout, as wide as a table needs where it is no terminal."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=160, no_color=True)


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


def comparison(systems: Sequence[tuple[str, Mapping[str, Any]]]) -> Table:
    """Return the table of several systems: WER on each scale, speed and size."""
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("system", overflow="fold")
    for column in (*SCALES_IN_COMPARISON, "CER", "× real time", "parameters"):
        table.add_column(column, justify="right")
    for name, scores in systems:
        found, speed = scores["scales"], scores.get("speed", {})
        rates = [
            f"{percent(found[scale]['wer'])}\n{between(found[scale]['wer_interval'])}".strip()
            for scale in SCALES_IN_COMPARISON
        ]
        rtfx, size = speed.get("rtfx"), speed.get("parameters")
        table.add_row(
            Text(name), *rates, percent(found["wer"]["cer"]), f"{rtfx:.0f}" if rtfx else "-",
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
