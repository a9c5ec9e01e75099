"""hvisk evaluate, score, compare and try: how good models are, on which scale, and which is better."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvisk.commands.options import Beam, Json, Language, Threads, following, print_json
from hvisk.errors import HviskError

if TYPE_CHECKING:
    from hvisk.corpora.store import Store
    from hvisk.systems.system import System

By = Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN", help="Group by this column too; repeatable.")]
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
    suites: Annotated[
        bool,
        typer.Option("--suites", help="Also where nobody speaks, in noise, over a telephone, and in long recordings."),
    ] = False,
    beam_size: Beam = 5,
    language: Language = "da",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Recognise a corpus, keep the raw predictions, and score them on every published scale, with intervals."""
    from hvisk import assessment, models
    from hvisk import evaluate as evaluation
    from hvisk.commands import shown
    from hvisk.corpora.store import Store
    from hvisk.report import evaluated
    from hvisk.report import evaluation as pages
    from hvisk.systems.choose import open_system
    from hvisk.terminal import Bar, talk

    if out and len(model) > 1:
        raise typer.BadParameter("--out is for one model; several go to runs/evaluations, a folder each")
    store, done = Store.open(on), []
    for name in model:
        where = out or Path("runs/evaluations") / f"{_plain(name)}--{on.resolve().parent.name}-{on.name}"
        system = open_system(name, language=language, beam_size=beam_size, threads=threads)
        with Bar(talk(), f"evaluating {name}") as bar:
            result = evaluation.evaluate_system(
                system, store, where, clips=clips, minutes=minutes, cache=models.cache_directory() / "evaluations.sqlite",
                on_progress=bar.clips,
            )  # fmt: skip
        if not result.finished:
            talk().print(
                f"{name}: {len(result.predictions)} of {result.planned} clips after {minutes:g} minutes; the same command "
                "goes on.",
                style="yellow",
            )
            continue
        scores = assessment.score_again(where, by) if by else assessment.scores(where)
        if suites:
            scores = assessment.update(where, {"suites": _suites(system, store, where)})
        done.append((name, where, scores))
        pages.write(where / "report.html", evaluated.gather([(name, where)], on, clips=24))
        if not as_json:
            _show(name, scores)
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
    write: Annotated[
        Path | None, typer.Option(help="Also write the predictions of the one file given, in the format of --as.")
    ] = None,
    form: Annotated[str, typer.Option("--as", help="hvisk, rye (the Danish leaderboard) or open-asr.")] = "open-asr",
    as_json: Json = False,
) -> None:
    """Score predictions again, of any age and of other projects too, on every scale."""
    from hvisk import assessment, interchange

    if write and len(file) > 1:
        raise typer.BadParameter("--write takes the predictions of one file")
    found = [(path, assessment.score_again(path, by or ())) for path in file]
    if as_json:
        print_json([{"file": str(path), **scores} for path, scores in found])
    else:
        for path, scores in found:
            _show(str(path), scores)
    if write:
        interchange.write(write, interchange.read(file[0]), form)
        following(f"hvisk score {write}")


def compare(
    run: Annotated[list[Path], typer.Argument(help="Evaluations of one corpus, the one to compare with first.")],
    on: Annotated[Path | None, typer.Option(help="Their corpus, for clips to listen to on the page.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page with tables, pictures and clips to this file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put evaluations side by side, and test each against the first on the clips that they share."""
    from hvisk import assessment, interchange, intervals, metrics
    from hvisk.commands import shown
    from hvisk.report import evaluated
    from hvisk.report import evaluation as pages

    if len(run) < 2:
        raise typer.BadParameter("name at least two evaluations")
    names = _names(run)
    systems = [(name, assessment.scores(path)) for name, path in zip(names, run, strict=True)]
    read = {name: {p.id: p for p in interchange.read(path)} for name, path in zip(names, run, strict=True)}
    shared = sorted(set.intersection(*(set(found) for found in read.values())))
    if not shared:
        raise HviskError(f"{', '.join(map(str, run))} share no clip. Evaluate the models on one corpus.")
    counted = {
        name: [metrics.count(found[i].reference, found[i].hypothesis) for i in shared] for name, found in read.items()
    }
    speakers = [read[names[0]][i].speaker for i in shared]
    words = [count.words for count in counted[names[0]]]
    errors = {name: [count.errors for count in counts] for name, counts in counted.items()}
    differences = [
        evaluated.Difference(name, names[0], intervals.paired(errors[name], errors[names[0]], words, speakers))
        for name in names[1:]
    ]
    visible = {name: intervals.detectable(errors[name], errors[names[0]], words, speakers) for name in names[1:]}
    if page:
        data = evaluated.gather(list(zip(names, run, strict=True)), on, clips=24, differences=differences)
        pages.write(page, data)
    if as_json:
        print_json(
            {
                "clips": len(shared),
                "systems": {name: scores["scales"] for name, scores in systems},
                "differences": [
                    {"system": d.first, "against": d.second, **vars(d.paired), "detectable": visible[d.first]}
                    for d in differences
                ],
            }
        )
    else:
        paper = shown.paper()
        paper.print(shown.comparison(systems))
        paper.print(f"\nOn the {len(shared):,} clips that all have, WER against {names[0]}:", markup=False, emoji=False)
        for difference in differences:
            paper.print(
                _difference(difference.first, difference.paired, visible[difference.first]), markup=False, emoji=False
            )
    if page:
        following(f"open {page} in a browser")


def try_(
    file: Annotated[Path, typer.Argument(help="One recording.")],
    models: Annotated[str, typer.Option(help="Names as hvisk evaluate takes them, with commas between.")],
    said: Annotated[
        str, typer.Option(help="What is really said; otherwise the first model is what is compared with.")
    ] = "",
    beam_size: Beam = 5,
    language: Language = "da",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Let several models hear one recording, and show where they differ."""
    import time

    from rich.table import Table
    from rich.text import Text

    from hvisk import audio, metrics
    from hvisk.commands import shown
    from hvisk.recogniser.vad import pieces
    from hvisk.systems.choose import open_system
    from hvisk.terminal import percent, talk

    sound = audio.load(file)
    rate = audio.SAMPLE_RATE
    # Every model hears the same pieces: some take 30 s at most, and where a recording is cut is not what is compared.
    short = audio.seconds(sound) <= 28
    cuts = [sound] if short else [sound[round(p.start * rate) : round(p.end * rate)] for p in pieces(sound)]
    found = []
    for name in filter(None, (part.strip() for part in models.split(","))):
        with talk().status(f"{name} listens"):
            system = open_system(name, language=language, beam_size=beam_size, threads=threads)
            began = time.perf_counter()
            texts = system.recognise(cuts) if cuts else []
            found.append((name, " ".join(filter(None, (t.strip() for t in texts))), time.perf_counter() - began))
    if not found:
        raise typer.BadParameter("name at least one model with --models")
    against = said or found[0][1]
    if as_json:
        print_json([{"model": name, "text": text, "seconds": round(took, 3)} for name, text, took in found])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    if said:
        table.add_row("said", Text(said), "")
    for name, text, took in found:
        counts = metrics.count(against, text)
        wrong = f"  WER {percent(counts.errors / counts.words)}" if said and counts.words else ""
        same = not said and text == against
        shown_text = Text(text or "(nothing)") if same else shown.coloured(against, text)
        table.add_row(Text(name), shown_text, f"{took:.2f} s{wrong}")
    shown.paper().print(table)


def _suites(system: "System", store: "Store", where: Path) -> dict[str, Any]:
    from hvisk import suites
    from hvisk.terminal import Bar, talk

    if system.kind == "predictions":
        raise HviskError("A file of predictions cannot be asked about new sounds. Leave out --suites, or name a model.")
    voices = [store.audio(i) for i in store.sample(8)]
    found: dict[str, Any] = {}
    with Bar(talk(), "where nobody speaks") as bar:
        quiet = suites.non_speech(
            system.recognise, where, settings=system.settings, voices=voices, on_progress=bar.update
        )
        found["non_speech"] = quiet.to_dict()
    with Bar(talk(), "in noise, rooms and telephones") as bar:
        clips = store.sample(min(ROBUSTNESS_CLIPS, len(store)))
        conditions = suites.robustness(
            store, clips, system.recognise, where, settings=system.settings, on_progress=bar.update
        )
        found["robustness"] = [condition.to_dict() for condition in conditions]
    if system.recognise_long is None:
        talk().print("Long recordings are left out: only hvisk's own recogniser takes them here.")
        return found
    with Bar(talk(), "in long recordings") as bar:
        try:
            lengths = suites.length(
                store, system.recognise, system.recognise_long, where, settings=system.settings, on_progress=bar.update
            )
            found["length"] = [length.to_dict() for length in lengths]
        except HviskError as error:
            talk().print(f"Long recordings are left out: {error}", markup=False)
    return found


def _show(name: str, scores: dict[str, Any]) -> None:
    from hvisk.commands import shown
    from hvisk.terminal import percent, talk

    paper, headline, behaviour = shown.paper(), scores["scales"]["wer"], scores["behaviour"]
    paper.print(name, style="bold", markup=False, emoji=False)  # "hf:..." is no emoji
    paper.print(shown.scales(scores))
    paper.print(
        f"{headline['clips']:,} clips of {headline['speakers']:,} speakers, {headline['words']:,} words: "
        f"{headline['substitutions']:,} substituted, {headline['deletions']:,} deleted, {headline['insertions']:,} inserted"
    )
    paper.print(
        f"runs on in {percent(behaviour['runaway'])} of the clips, goes in circles in {percent(behaviour['loop'])}, "
        f"says nothing in {percent(behaviour['empty'])}"
    )
    speed = scores.get("speed", {})
    if speed.get("rtfx"):
        paper.print(f"{speed['rtfx']:.0f} times real time")
    if scores["failed"]:
        talk().print(f"{scores['failed']} clips failed and count as empty; why is in their notes.", style="yellow")
    for warning in dict.fromkeys(score["warning"] for score in scores["scales"].values() if score["warning"]):
        talk().print(f"Note: {warning}", style="yellow", markup=False)


def _difference(name: str, paired: Any, visible: float | None) -> str:
    from hvisk.commands import shown

    if paired.difference is None:
        return f"  {name}: no words to compare"
    better = f", better in {100 * paired.probability:.0f} % of the draws" if paired.probability is not None else ""
    seen = f"; these clips can show differences above {100 * visible:.1f} points" if visible is not None else ""
    warning = f" ({paired.warning})" if paired.warning else ""
    return f"  {name}: {100 * paired.difference:+.1f} points {shown.between(paired.interval)}{better}{seen}{warning}"


def _names(runs: list[Path]) -> list[str]:
    from hvisk import files

    names = []
    for run in runs:
        settings = files.read_json(run / "settings.json") if (run / "settings.json").exists() else {}
        names.append(str(settings.get("model") or run.stem))
    return [name if names.count(name) == 1 else str(run) for name, run in zip(names, runs, strict=True)]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name.strip("/"))
