"""One or more evaluations of the same corpus as one HTML file that needs nothing else: `evaluated.gather`, then `write`.

Rates of different scales never share an axis, and published figures stand only beside figures of their own scale.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hvisk import files
from hvisk.report import listen, pictures, templates
from hvisk.report.charts import next_round
from hvisk.report.evaluated import CONFUSIONS, EXAMPLES, EvaluationData, System
from hvisk.report.references import Reference
from hvisk.report.scatter import OWN_COLOURS

MOST_GROUPS = 12  # of a column; the others are in scores.json
OPEN_ROWS, OPEN_TABLE = 20, 6  # of the group tables that need no unfolding: rows of all, and of one at most

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
KINDS = ("substitutions", "deletions", "insertions")
RECALLS = {
    "new_names": "names that were not in the training texts",
    "names": "names",
    "numbers": "numbers",
}


def write(path: Path, data: EvaluationData) -> None:
    """Write the page, atomically."""
    files.write_text(path, render(data))


def render(data: EvaluationData) -> str:
    """Return the page as HTML, ready to be encoded as UTF-8."""
    scales = list(dict.fromkeys(scale for system in data.systems for scale in system.scales))
    places = {clip.id: place for place, clip in enumerate(data.clips)}
    drawn = pictures.pictures(data, scales)
    return templates.page(
        "evaluation.html.jinja",
        styles=["page.css", "evaluation.css"],
        scripts=["pictures.js", "clips.js"],
        data=data,
        scales=scales,
        titles={scale: _title(data.systems, scale) for scale in scales},
        meanings=MEANINGS,
        pictures=drawn,
        first=next((view["scale"] for view in drawn if view["published"]), drawn[0]["scale"] if drawn else ""),
        published=_published(data.references),
        groups=_groups(data.systems),
        suites=pictures.suites(data.systems),
        behaviour=[
            (system.name, said, _worst(system.behaviour, places))
            for system in data.systems
            if (said := _behaviour(system.behaviour, system.suites))
        ],
        words=[(system.name, _words(system.words, places)) for system in data.systems if system.words],
        clips=[listen.shown(clip) for clip in data.clips],
        columns=listen.columns(data.clips),
        missing=_missing(data.systems),
        colours=OWN_COLOURS,
    )


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
    """One table a column; every system's rates on one linear scale, positions in per cent of its width.

    Of many groups those with the most clips are shown; of many tables the first stand open, the others folded.
    """
    tables = []
    rows_open = 0
    for column in dict.fromkeys(column for system in systems for column in system.groups):
        rows = _rows(systems, column)
        kept = sorted(rows, key=lambda row: -(row["clips"] or 0))[:MOST_GROUPS]
        shown = [row for row in rows if any(row is one for one in kept)]  # in their own order
        rates = [mark["group"] for row in shown for mark in row["marks"]]
        bounds = [b for group in rates for b in (group.get("wer"), *(group.get("wer_interval") or ())) if b is not None]
        scale = next_round(max([*bounds, 0.01]))
        for mark in (mark for row in shown for mark in row["marks"]):
            rate, ends = mark["group"].get("wer"), mark["group"].get("wer_interval")
            mark["spot"] = None if rate is None else [100 * part / scale for part in (rate, *(ends or (rate, rate)))]
        unfolded = len(rows) <= OPEN_TABLE and rows_open + len(rows) <= OPEN_ROWS
        rows_open += len(rows) if unfolded else 0
        tables.append(
            {
                "column": column.replace("_", " "),
                "scale": scale,
                "rows": shown,
                "hidden": len(rows) - len(shown),
                "open": unfolded,
            }
        )
    return tables


def _rows(systems: Sequence[System], column: str) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for place, system in enumerate(systems):
        for group in system.groups.get(column, ()):
            row = rows.setdefault(str(group["group"]), {"group": group["group"], "marks": []})
            row |= {"clips": group.get("clips"), "speakers": group.get("speakers")}
            row["marks"].append({"place": place, "name": system.name, "group": group})
    return list(rows.values())


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
    """Lists of confusions, and how many names and numbers are recognised, with the ones that are missed most."""

    def heard(confusions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**one, "clips": [(i, places[i]) for i in one["ids"] if i in places][:EXAMPLES]}
            for one in confusions[:CONFUSIONS]
        ]

    recalls = [
        {"title": title, **words[name], "missed": heard(words[name].get("missed", ()))}
        for name, title in RECALLS.items()
        if words.get(name) and words[name].get("total")
    ]
    return {"kinds": {kind: heard(words.get(kind, ())) for kind in KINDS}, "recalls": recalls}
