"""hvisk compare and try: which model is better, on a corpus and on one recording."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hvisk.commands.options import Beam, Json, Language, Scale, TestSet, Threads, following, print_json
from hvisk.errors import HviskError


def compare(
    run: Annotated[list[Path], typer.Argument(help="Evaluations of one corpus, the one to compare with first.")],
    on: Annotated[Path | None, typer.Option(help="Their corpus, for clips to listen to on the page.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page with tables, pictures and clips to this file.")
    ] = None,
    scale: Scale = None,
    test_set: TestSet = "",
    as_json: Json = False,
) -> None:
    """Put evaluations side by side, and test each against the first on the clips that they share."""
    from hvisk import assessment, interchange, intervals, metrics, scorers
    from hvisk.commands import shown
    from hvisk.report import evaluated, references
    from hvisk.report import evaluation as pages

    if len(run) < 2:
        raise typer.BadParameter("name at least two evaluations")
    shown.check(scale or ())
    references.check_test_set(test_set)
    names = shown.names(run)
    # Files of predictions are scored as the evaluations beside them were.
    kept = [assessment.fillers_of(assessment.scores(path)) for path in run if (path / "scores.json").exists()]
    fillers = kept[0] if kept else "keep"
    scoring = assessment.Scoring(fillers=fillers)
    systems = [(name, assessment.scores(path, scoring)) for name, path in zip(names, run, strict=True)]
    _refuse_other_versions(systems)
    read = {name: {p.id: p for p in interchange.read(path)} for name, path in zip(names, run, strict=True)}
    shared = sorted(set.intersection(*(set(found) for found in read.values())))
    if not shared:
        raise HviskError(f"{', '.join(map(str, run))} share no clip. Evaluate the models on one corpus.")
    normalise, _ = scorers.normaliser(fillers)
    counted = {
        name: [metrics.count(found[i].reference, found[i].hypothesis, normalise) for i in shared]
        for name, found in read.items()
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
        data = evaluated.gather(
            list(zip(names, run, strict=True)), on, clips=evaluated.PAGE_CLIPS, test=test_set, differences=differences,
            scales=scale or (),
        )  # fmt: skip
        pages.write(page, data)
    if as_json:
        print_json(
            {
                "clips": len(shared),
                "fillers": fillers,
                "systems": {name: shown.only(scores, scale or ())["scales"] for name, scores in systems},
                "differences": [
                    {"system": d.first, "against": d.second, **vars(d.paired), "detectable": visible[d.first]}
                    for d in differences
                ],
            }
        )
    else:
        paper = shown.paper()
        paper.print(shown.comparison(systems, scale or shown.SCALES_IN_COMPARISON))
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


def _refuse_other_versions(systems: list[tuple[str, dict[str, Any]]]) -> None:
    """Figures of two versions of a scale are not compared, whatever else is alike."""
    (first, own), *others = systems
    for name, scores in others:
        for scale in own["scales"].keys() & scores["scales"].keys():
            one, other = (found["scales"][scale].get("version") for found in (own, scores))
            if one != other:
                raise HviskError(
                    f"On the scale {scale}, {first} was scored as '{one}' and {name} as '{other}', which cannot be compared. "
                    "Score them alike first, with: hvisk score RUN... --fillers keep"
                )


def _difference(name: str, paired: Any, visible: float | None) -> str:
    from hvisk.commands import shown

    if paired.difference is None:
        return f"  {name}: no words to compare"
    better = f", better in {100 * paired.probability:.0f} % of the draws" if paired.probability is not None else ""
    seen = f"; these clips can show differences above {100 * visible:.1f} points" if visible else ""
    warning = f" ({paired.warning})" if paired.warning else ""
    return f"  {name}: {100 * paired.difference:+.1f} points {shown.between(paired.interval)}{better}{seen}{warning}"
