"""Evaluation directories of one corpus, gathered into the data of their page; a part that is missing is left empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hvisk import files, metrics, predictions
from hvisk.corpora.store import Store
from hvisk.errors import HviskError
from hvisk.intervals import Paired
from hvisk.predictions import Prediction
from hvisk.report import references
from hvisk.report.listen import Clip, Why, choose_clips
from hvisk.report.references import Reference

PAGE_CLIPS = 24  # clips to listen to, where nobody says otherwise: some 40 kB each
CONFUSIONS, EXAMPLES = 12, 3  # of each kind shown; clips of each to listen to
EXTRA = 2  # examples a chosen clip, at most: each costs the page some 40 kB


@dataclass(frozen=True)
class System:
    """One evaluated system: what its directory holds. Empty mappings stand for parts that were not measured.

    scales: name of the scale -> ScaleScore.to_dict(). speed: rtfx, and other figures in scores.json's own names.
    scoring: how it was scored, as `assessment.Scoring` tells it. parameters: None where not known.
    """

    name: str
    settings: Mapping[str, Any]
    scales: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Sequence[Mapping[str, Any]]]
    behaviour: Mapping[str, Any]
    words: Mapping[str, Any]
    speed: Mapping[str, Any]
    suites: Mapping[str, Any]
    parameters: int | None
    scoring: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Two systems on the same clips; `paired` is `first` minus `second`, so that below zero `first` is the better one."""

    first: str
    second: str
    paired: Paired


@dataclass(frozen=True)
class EvaluationData:
    """Everything that the page shows. test: the test set as the published figures name it, "" if it is none of theirs."""

    title: str
    subtitle: str
    systems: Sequence[System]
    references: Sequence[Reference]
    test: str
    differences: Sequence[Difference]
    clips: Sequence[Clip]
    notes: Sequence[str]


def gather(
    evaluations: Sequence[tuple[str, Path]],
    corpus: Path | None,
    clips: int,
    *,
    test: str = "",
    scales: Sequence[str] = (),
    differences: Sequence[Difference] = (),
    seed: int = 0,
) -> EvaluationData:
    """Read evaluation directories of one corpus into the page's data.

    evaluations: name and directory, the one that matters most first. corpus: what they ran on, for the sound. clips: how
    many to take into the page, half of them those the first system gets most wrong, half at random, and with them at
    most twice as many examples of confusions. test: the published test set that this corpus is; by default the one that it
    was scored as, or is called like. scales: those to show, all by default.
    HviskError where a directory is no evaluation, two have one name, or `test` is none that has published figures.
    """
    published = references.load()
    references.check_test_set(test)
    names = [name for name, _ in evaluations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise HviskError(f"Two evaluations are both called {', '.join(twice)}. Give each a name of its own.")
    systems, found = [], []
    for name, directory in evaluations:
        system, own = _read(name, directory, scales)
        systems.append(system)
        found.append((name, own))
    settings = systems[0].settings if systems else {}
    named = str(settings.get("corpus") or "the corpus")
    known_tests = {r.test for r in published}
    told = (str(system.scoring.get("test_set") or "") for system in systems)
    test = test or next((name for name in (*told, named) if name in known_tests), "")
    shared = set.intersection(*(set(own) for _, own in found)) if found else set()
    notes = [
        f"{name} has {len(own):,} clips, of which {len(shared):,} are common to all."
        for name, own in found
        if len(own) > len(shared)
    ]
    notes += [note for system in systems for note in _notes(system)]
    return EvaluationData(
        title=f"{systems[0].name} on {named}" if len(systems) == 1 else f"{len(systems)} systems on {named}",
        subtitle=f"{len(found[0][1]) if found else 0:,} clips, recognised and scored by hvisk.",
        systems=systems,
        references=published,
        test=test,
        differences=differences,
        clips=_choose(systems, found, Store.open(corpus) if corpus else None, clips, seed),
        notes=notes,
    )


def _read(name: str, directory: Path, scales: Sequence[str]) -> tuple[System, dict[str, Prediction]]:
    scores, settings, lines = (directory / part for part in ("scores.json", "settings.json", "predictions.jsonl"))
    if not scores.exists() and not lines.exists():
        raise HviskError(f"{directory} holds neither scores.json nor predictions.jsonl. Make them with: hvisk evaluate")
    kept = files.read_json(scores) if scores.exists() else {}
    told = {**kept.get("settings", {}), **(files.read_json(settings) if settings.exists() else {})}
    speed = kept.get("speed", {})
    system = System(
        name=name,
        settings=told,
        scales={s: score for s, score in kept.get("scales", {}).items() if not scales or s in scales},
        groups=kept.get("groups", {}),
        behaviour=kept.get("behaviour", {}),
        words=kept.get("words", {}),
        speed=speed if isinstance(speed, dict) else {"rtfx": speed},
        suites=kept.get("suites", {}),
        parameters=_parameters(told, kept),
        scoring=kept.get("scoring", {}),
    )
    found = predictions.load(lines) if lines.exists() else []
    predictions.once_each((p.id for p in found), str(lines))
    return system, {p.id: p for p in found}


def _notes(system: System) -> list[str]:
    """What a reader must know of how a system was asked and scored."""
    notes = []
    fillers = system.scoring.get("fillers", "keep")
    if fillers == "drop":
        notes.append(
            f"{system.name}: øh, øhm and the like are dropped before counting, on the scales wer and compound."
        )
    if system.suites and system.suites.get("fillers", "keep") != fillers:
        notes.append(f"{system.name}: the robustness suites were scored before, with fillers the other way.")
    if system.settings.get("deterministic") is False:
        notes.append(f"{system.name} draws lots while it decodes: another run may write other texts.")
    seen = system.scoring.get("seen")
    if seen:
        corpora = ", ".join(corpus["name"] for corpus in seen["corpora"])
        notes.append(" ".join(filter(None, (f"{system.name}: new names are those not in {corpora}.", seen["note"]))))
    return notes


def _parameters(settings: Mapping[str, Any], scores: Mapping[str, Any]) -> int | None:
    """From the evaluation itself, else from the model's own hvisk.json where that is still there."""
    for part in (settings, scores, scores.get("speed"), scores.get("size")):
        if isinstance(part, Mapping) and part.get("parameters"):
            return int(part["parameters"])
    about = Path(str(settings.get("model", ""))) / "hvisk.json"
    found = files.read_json(about).get("parameters") if about.is_file() else None
    return int(found) if found else None


def _choose(
    systems: Sequence[System],
    found: Sequence[tuple[str, dict[str, Prediction]]],
    store: Store | None,
    limit: int,
    seed: int,
) -> list[Clip]:
    if not found or limit <= 0:
        return []
    first = found[0][1]
    counts = [(p.id, metrics.count(p.reference, p.hypothesis)) for p in first.values()]
    chosen: dict[str, Why] = dict(choose_clips(counts, worst=(limit + 1) // 2, others=limit // 2, seed=seed))
    for identifier in _examples(systems):
        if len(chosen) >= (1 + EXTRA) * limit:
            break
        chosen.setdefault(identifier, "example")
    places = {identifier: i for i, identifier in enumerate(store.ids)} if store else {}
    mime = "audio/ogg" if store and store.manifest["codec"] == "opus" else "audio/flac"
    return [
        Clip(
            id=identifier,
            why=why,
            speaker=first[identifier].speaker,
            seconds=first[identifier].seconds,
            reference=first[identifier].reference,
            hypotheses=[(name, own[identifier].hypothesis) for name, own in found if identifier in own],
            labels={key: str(item) for key, item in first[identifier].meta.items() if item not in (None, "")},
            audio=store.encoded(places[identifier]) if store and identifier in places else b"",
            mime=mime,
        )
        for identifier, why in chosen.items()
        if identifier in first
    ]


def _examples(systems: Sequence[System]) -> list[str]:
    """Clips of the lists of confusions and bad behaviour: the first of every entry, then the second of every entry."""
    lists: list[Sequence[str]] = []
    for system in systems:
        lists += system.behaviour.get("worst", {}).values()
        for kind in ("substitutions", "deletions", "insertions"):
            lists += [confusion["ids"] for confusion in system.words.get(kind, ())[:CONFUSIONS]]
        for kind in ("new_names", "names", "numbers"):
            missed = (system.words.get(kind) or {}).get("missed", ())
            lists += [confusion["ids"] for confusion in missed[:CONFUSIONS]]
    return [ids[turn] for turn in range(EXAMPLES) for ids in lists if turn < len(ids)]
