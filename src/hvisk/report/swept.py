"""The page of a sweep: one table, one picture, and the learning curve of each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvisk import files
from hvisk.report import templates
from hvisk.report.charts import Point, learning_curve
from hvisk.report.scatter import Series, levels


def write(path: Path, rows: Sequence[Mapping[str, Any]], best: str | None) -> None:
    """Write the page of `train.sweep`'s rows, of which `best` is the best one's name."""
    files.write_text(path, render(rows, best))


def render(rows: Sequence[Mapping[str, Any]], best: str | None) -> str:
    """Return the page as HTML."""
    keys = list(rows[0]["values"])
    series = _series(rows)
    return templates.page(
        "swept.html.jinja",
        styles=("page.css", "evaluation.css"),
        scripts=(),
        title=f"Sweep over {', '.join(keys)}",
        keys=keys,
        rows=[{**row, "key": f"run{i}", "best": row["name"] == best} for i, row in enumerate(rows)],
        picture=levels(series, title=f"Word error rate by {keys[0]}", key="sweep", width=720) if series else None,
        series=series,
        curves=[
            (row["name"], curve)
            for i, row in enumerate(rows)
            if (curve := learning_curve([_point(line) for line in row["log"]], width=720, key=f"curve{i}"))
        ],
    )


def _series(rows: Sequence[Mapping[str, Any]]) -> list[Series]:
    """One line along the first key's values for each combination of the others'."""
    lines: dict[str, list[tuple[str, float, tuple[float, float] | None]]] = {}
    for row in rows:
        (_, first), *others = row["values"].items()
        if row["finished"] and row["after"]["wer"] is not None:
            interval = row["after"]["wer_interval"]
            place = (first, row["after"]["wer"], tuple(interval) if interval else None)
            lines.setdefault(", ".join(f"{key} = {value}" for key, value in others), []).append(place)
    return [Series(name or "WER", own, points) for own, (name, points) in enumerate(lines.items())]


def _point(line: Mapping[str, Any]) -> Point:
    return Point(line["step"], line["minutes"], line["loss"], line["score"]["wer"], line["score"]["cer"])
