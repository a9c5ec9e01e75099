"""hvisk evaluate and score: how good a model is, on which scale."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvisk.commands.options import (
    Beam,
    By,
    Fill,
    Json,
    Language,
    Scale,
    Style,
    TestSet,
    Threads,
    Trained,
    following,
    print_json,
)
from hvisk.errors import HviskError

if TYPE_CHECKING:
    from hvisk.corpora.store import Store
    from hvisk.scorers import Fillers
    from hvisk.seen import Seen
    from hvisk.systems.system import System

ROBUSTNESS_CLIPS = 200


def evaluate(
    model: Annotated[
        list[str],
        typer.Argument(
            help="A model's directory, a training run or a Hub id, for hvisk's own recogniser; or hf:, faster-whisper:, "
            "whisper.cpp:, openai-whisper:, api: or predictions: before a name, for another. Several are evaluated in turn."
        ),
    ],
    on: Annotated[Path, typer.Option(help="A corpus made by hvisk prepare.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictions and scores; by default under runs/evaluations.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Evaluate on so many clips, chosen at random; 0 is all.")] = 0,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many minutes a model; the same command goes on.")
    ] = None,
    by: By = None,
    scale: Scale = None,
    fillers: Fill = "keep",
    test_set: TestSet = "",
    trained: Trained = None,
    suites: Annotated[
        bool,
        typer.Option("--suites", help="Also where nobody speaks, in noise, over a telephone, and in long recordings."),
    ] = False,
    guards: Annotated[
        bool,
        typer.Option(
            "--guards/--no-guards",
            help="Texts that no one can have said are drawn again or left out, as hvisk transcribe does; for hvisk's own "
            "recogniser.",
        ),
    ] = True,
    beam_size: Beam = 5,
    language: Language = "da",
    style: Style = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Recognise a corpus, keep the raw predictions, and score them on every published scale, with intervals."""
    from hvisk import assessment, doctor, models, seen
    from hvisk import evaluate as evaluation
    from hvisk.commands import shown
    from hvisk.corpora.store import Store
    from hvisk.report import evaluated, references
    from hvisk.report import evaluation as pages
    from hvisk.systems.choose import open_system
    from hvisk.terminal import Bar, talk

    if out and len(model) > 1:
        raise typer.BadParameter("--out is for one model; several go to runs/evaluations, a folder each")
    shown.check(scale or ())
    references.check_test_set(test_set)
    words = seen.gather(trained) if trained else None
    store, done = Store.open(on), []
    for name in model:
        called = _plain(f"{name}-{style}" if style else name)
        where = out or Path("runs/evaluations") / f"{called}--{on.resolve().parent.name}-{on.name}"
        system = open_system(name, language=language, style=style, beam_size=beam_size, threads=threads, guards=guards)
        scoring = assessment.Scoring(tuple(by or ()), fillers, test_set, words or _seen(system))
        with Bar(talk(), f"evaluating {name}") as bar:
            result = evaluation.evaluate_system(
                system, store, where, clips=clips, minutes=minutes, cache=models.cache_directory() / "evaluations.sqlite",
                hardware=doctor.hardware(), scoring=scoring, on_progress=bar.clips,
            )  # fmt: skip
        if not result.finished:
            talk().print(
                f"{name}: {len(result.predictions)} of {result.planned} clips after {minutes:g} minutes; the same command "
                "goes on.",
                style="yellow",
                markup=False,
            )
            continue
        if suites:
            assessment.update(where, {"suites": _suites(system, store, where, fillers)})
        scores = shown.only(assessment.scores(where), scale or ())
        done.append((name, where, scores))
        data = evaluated.gather([(name, where)], on, clips=evaluated.PAGE_CLIPS, test=test_set, scales=scale or ())
        pages.write(where / "report.html", data)
        if not as_json:
            shown.evaluation(name, scores)
    if as_json:
        print_json([{"model": name, "out": str(where), **scores} for name, where, scores in done])
    elif len(done) > 1:
        shown.paper().print(shown.comparison([(name, scores) for name, _, scores in done]))
    if not done:
        raise typer.Exit(1)
    if len(done) > 1:
        following(f"hvisk compare {' '.join(str(where) for _, where, _ in done)} --on {on} --page compare.html")
    else:
        following(f"open {done[0][1]}/report.html in a browser", f"read {done[0][1]}/predictions.jsonl")


def score(
    file: Annotated[
        list[Path],
        typer.Argument(
            help="Evaluations, predictions.jsonl, the Danish leaderboard's outputs, or manifests of the Open ASR leaderboard."
        ),
    ],
    by: By = None,
    scale: Scale = None,
    fillers: Fill = "keep",
    test_set: TestSet = "",
    trained: Trained = None,
    on: Annotated[
        Path | None,
        typer.Option(help="The corpus of the evaluations given: their pages are written anew, with its sound."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Also write the predictions of the one file given, in the format of --as.")
    ] = None,
    form: Annotated[str, typer.Option("--as", help="hvisk, rye (the Danish leaderboard) or open-asr.")] = "open-asr",
    as_json: Json = False,
) -> None:
    """Score predictions again, of any age and of other projects too, on every scale."""
    from hvisk import assessment, interchange, seen
    from hvisk.commands import shown
    from hvisk.report import evaluated, references
    from hvisk.report import evaluation as pages

    if write and len(file) > 1:
        raise typer.BadParameter("--write takes the predictions of one file")
    shown.check(scale or ())
    references.check_test_set(test_set)
    words = seen.gather(trained) if trained else None
    found, old_pages = [], []
    for path in file:
        kept = assessment.kept_scoring(path)  # what a corpus is, and what a model has seen, is not asked for twice
        scoring = assessment.Scoring(
            tuple(by or ()), fillers, test_set or str(kept.get("test_set") or ""), words or seen.again(kept.get("seen"))
        )
        found.append((path, shown.only(assessment.score_again(path, scoring), scale or ())))
        if (path / "report.html").exists() and not on:
            old_pages.append(path)
        elif on and (path / "scores.json").exists():
            (name,) = shown.names([path])
            data = evaluated.gather([(name, path)], on, clips=evaluated.PAGE_CLIPS, scales=scale or ())
            pages.write(path / "report.html", data)
    if as_json:
        print_json([{"file": str(path), **scores} for path, scores in found])
    else:
        for path, scores in found:
            shown.evaluation(str(path), scores)
    if write:
        interchange.write(write, interchange.read(file[0]), form)
        following(f"hvisk score {write}")
    if old_pages:
        following(f"hvisk score {' '.join(map(str, old_pages))} --on CORPUS, which writes report.html anew")


def _seen(system: "System") -> "Seen | None":
    """The words that a model of ours was trained on, where its corpora still lie; it is said where they do not."""
    from hvisk import seen
    from hvisk.terminal import talk

    if not system.about:
        return None
    found, why = seen.of_model(system.about, Path(system.name.removeprefix("hf:")))
    if found is None:
        talk().print(f"Names new to {system.name} are not told apart: {why}.", markup=False)
    return found


def _suites(system: "System", store: "Store", where: Path, fillers: "Fillers") -> dict[str, Any]:
    from hvisk import scorers, suites
    from hvisk.terminal import Bar, talk

    if system.kind == "predictions":
        raise HviskError("A file of predictions cannot be asked about new sounds. Leave out --suites, or name a model.")
    voices = [store.audio(i) for i in store.sample(8)]
    normalise, _ = scorers.normaliser(fillers)
    found: dict[str, Any] = {"fillers": fillers}
    with Bar(talk(), "where nobody speaks") as bar:
        quiet = suites.non_speech(
            system.recognise, where, settings=system.settings, voices=voices, on_progress=bar.update
        )
        found["non_speech"] = quiet.to_dict()
    with Bar(talk(), "in noise, rooms and telephones") as bar:
        clips = store.sample(min(ROBUSTNESS_CLIPS, len(store)))
        conditions = suites.robustness(
            store, clips, system.recognise, where, settings=system.settings, normalise=normalise, on_progress=bar.update
        )
        found["robustness"] = [condition.to_dict() for condition in conditions]
    if system.recognise_long is None:
        talk().print("Long recordings are left out: only hvisk's own recogniser takes them here.")
        return found
    with Bar(talk(), "in long recordings") as bar:
        try:
            lengths = suites.length(
                store, system.recognise, system.recognise_long, where, settings=system.settings, normalise=normalise,
                on_progress=bar.update,
            )  # fmt: skip
            found["length"] = [length.to_dict() for length in lengths]
        except HviskError as error:
            talk().print(f"Long recordings are left out: {error}", markup=False)
    return found


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name.strip("/"))
