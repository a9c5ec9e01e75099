"""hvisk evaluate: how good a model is."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Beam, Json, Language, Threads, following, print_json


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's directory, a training run, or a Hub id.")],
    on: Annotated[Path, typer.Option(help="A corpus made by hvisk prepare.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictions and scores; by default under runs/evaluations.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Evaluate on so many clips, chosen at random; 0 is all.")] = 0,
    beam_size: Beam = 5,
    language: Language = "da",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Recognise a corpus, keep the raw predictions, and score them: WER and CER with intervals over speakers."""
    from hvisk import evaluate as evaluation
    from hvisk import models
    from hvisk.corpora.store import Store
    from hvisk.terminal import Bar, percent, talk

    store = Store.open(on)
    directory = models.recognisable(model)
    where = (
        out or Path("runs/evaluations") / f"{model.strip('/').replace('/', '-')}--{on.resolve().parent.name}-{on.name}"
    )
    with Bar(talk(), "evaluating") as bar:
        result = evaluation.evaluate_model(
            directory,
            store,
            where,
            beam_size=beam_size,
            language=language,
            threads=threads,
            clips=clips,
            on_progress=bar.clips,
        )
    score = result.score
    if as_json:
        print_json({**score.to_dict(), "speed": round(result.speed, 1), "out": str(where)})
    else:
        for name, rate, interval in (("WER", score.wer, score.wer_interval), ("CER", score.cer, score.cer_interval)):
            between = f"  [{percent(interval[0])} to {percent(interval[1])}]" if interval else ""
            print(f"{name} {percent(rate)}{between}")
        print(f"{score.clips} clips of {score.speakers} speakers, {score.words} words: {score.substitutions} substituted, "
              f"{score.deletions} deleted, {score.insertions} inserted; {result.speed:.0f} times real time")  # fmt: skip
    if score.warning:
        talk().print(f"Note: {score.warning}", style="yellow")
    following(f"read {where}/predictions.jsonl")
