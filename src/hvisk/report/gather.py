"""What a run, its evaluations and its export left on disk, gathered into the data of one report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvisk import evaluate, files, metrics, predictions
from hvisk.corpora.store import Store
from hvisk.errors import HviskError
from hvisk.predictions import Prediction
from hvisk.report import change
from hvisk.report.listen import Clip, choose_clips
from hvisk.report.page import Fact, Point, ReportData

WORST, RANDOM = 12, 12  # clips with players: some 40 kB each


def gather(
    run: Path,
    evaluations: Sequence[tuple[str, Path]],
    *,
    corpus: Path | None = None,
    export: Path | None = None,
    stages: Sequence[tuple[str, float]] = (),
    hardware: str = "",
    subtitle: str = "",
) -> ReportData:
    """Return the report of a training run.

    evaluations: name and directory of what `hvisk evaluate` wrote, the final system last; without any, what the run itself
    measured before and after is shown. corpus: what they ran on, for the
    sound of the clips. export: what `hvisk export` wrote, for its parity proof. stages: name and seconds.
    Raises HviskError where `run` is no run or an evaluation has no predictions.
    """
    if not (run / "recipe.json").exists():
        raise HviskError(f"{run} is no training run: recipe.json is missing. Give the 'out' of a recipe.")
    recipe = files.read_json(run / "recipe.json")["recipe"]
    about = files.read_json(run / "model" / "hvisk.json") if (run / "model" / "hvisk.json").exists() else {}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [(name, _predictions(directory)) for name, directory in evaluations]
    scores = [(name, evaluate.score(clips)) for name, clips in found]
    ending, changes = ({}, []) if evaluations else change.read(run)
    return ReportData(
        title=f"A Whisper of {about.get('parameters', 0) / 1e6:.1f} million parameters" if about else str(run),
        subtitle=subtitle or f"Trained with {run.name}'s recipe; language: {recipe['language']}.",
        facts=_facts(recipe, about, log, hardware),
        curve=[
            Point(line["step"], line["minutes"], line["loss"], line["score"]["wer"], line["score"]["cer"])
            for line in log
        ],
        scores=scores or (changes[0].scores if changes else []),
        watched=[score for watched in changes[1:] for score in watched.scores],
        stages=list(stages),
        parity=_parity(export),
        clips=[
            *_clips(found, Store.open(corpus) if corpus else None),
            *(clip for one in changes for clip in change.clips(one, worst=WORST, others=RANDOM)),
        ],
        recipe=recipe,
        notes=[*change.notes(ending, changes, recipe["base"]), *_notes(about)],
    )


def _parity(export: Path | None) -> dict[str, Any] | None:
    """The proof beside an export, None where there is none."""
    if export is None or not (export / "parity.json").exists():
        return None
    found: dict[str, Any] = files.read_json(export / "parity.json")
    if "wer" not in found:
        raise HviskError(f"{export / 'parity.json'} is an older version's. Export the model again: hvisk export")
    return found


def _predictions(directory: Path) -> list[Prediction]:
    path = directory / "predictions.jsonl"
    if not path.exists():
        raise HviskError(
            f"{directory} holds no predictions.jsonl. Make it with: hvisk evaluate MODEL --on CORPUS --out DIR"
        )
    return predictions.load(path)


def _facts(recipe: dict[str, Any], about: dict[str, Any], log: list[dict[str, Any]], hardware: str) -> list[Fact]:
    facts = [
        Fact("Model", "Parameters", about.get("parameters")),
        Fact("Model", "Started from", recipe["base"] or "random weights"),
        Fact("Model", "Language", recipe["language"]),
        Fact("Training", "Steps", log[-1]["step"]),
        Fact("Training", "Minutes", log[-1]["minutes"]),
        Fact("Training", "Hours of speech learnt from, repetitions counted", round(log[-1]["audio_seconds"] / 3600, 2)),
        Fact("Training", "Steps left out (loss not finite)", log[-1]["skipped"]),
    ]
    for corpus in about.get("corpora", []):
        facts += [
            Fact(f"Corpus: {corpus['name']}", "Clips", corpus["clips"]),
            Fact(f"Corpus: {corpus['name']}", "Hours", round(corpus["seconds"] / 3600, 2)),
            Fact(f"Corpus: {corpus['name']}", "Speakers", corpus["speakers"]),
            Fact(f"Corpus: {corpus['name']}", "Licence", corpus["licence"]),
            Fact(f"Corpus: {corpus['name']}", "Fingerprint", corpus["fingerprint"][:16]),
        ]
    for path in recipe["train"]:
        if (Path(path) / "manifest.json").exists():
            filtered = files.read_json(Path(path) / "manifest.json")["filtered"]
            facts += [Fact("Left out of the corpora", reason, count) for reason, count in filtered.items()]
    if hardware:
        facts.append(Fact("Machine", "Hardware", hardware))
    return facts


def _clips(found: Sequence[tuple[str, list[Prediction]]], store: Store | None) -> list[Clip]:
    if not found:
        return []
    final = {p.id: p for p in found[-1][1]}
    texts = [(name, {p.id: p.hypothesis for p in clips}) for name, clips in found]
    places = {identifier: i for i, identifier in enumerate(store.ids)} if store else {}
    counts = [(p.id, metrics.count(p.reference, p.hypothesis)) for p in final.values()]
    return [
        Clip(
            id=identifier,
            why=why,
            speaker=final[identifier].speaker,
            seconds=final[identifier].seconds,
            reference=final[identifier].reference,
            hypotheses=[(name, known[identifier]) for name, known in reversed(texts) if identifier in known],
            audio=store.encoded(places[identifier]) if store and identifier in places else b"",
            mime="audio/ogg" if store and store.manifest["codec"] == "opus" else "audio/flac",
        )
        for identifier, why in choose_clips(counts, worst=WORST, others=RANDOM)
    ]


def _notes(about: dict[str, Any]) -> list[str]:
    licences = sorted({c["licence"] for c in (*about.get("corpora", []), *about.get("base_corpora", []))})
    return [f"Licences of what it was trained on: {'; '.join(licences)}"] if licences else []
