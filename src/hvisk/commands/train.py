"""hvisk demo, train and sweep: a corpus becomes a model."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hvisk.commands.options import Json, Out, Settings, following, print_json


def demo(
    out: Out = Path("runs/demo"),
    clips: Annotated[int, typer.Option(min=40, help="Synthetic clips to train on.")] = 10000,
    test_clips: Annotated[int, typer.Option(min=12, help="Synthetic clips of unseen speakers to test on.")] = 300,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Walk the whole road on this machine: synthetic Danish speech, training, evaluation, export, transcription, report."""
    from hvisk.demo import run
    from hvisk.terminal import talk

    summary = run(out, talk(), clips=clips, test_clips=test_clips, settings=tuple(settings or ()))
    if as_json:
        print_json(summary)
    following(f"hvisk transcribe {out}/recording.flac --model {out}/model", f"and open {out}/report.html in a browser")


def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that hvisk brings: 'demo'.")],
    start: Annotated[
        str, typer.Option("--from", metavar="MODEL", help="The model to start from, instead of the recipe's base.")
    ] = "",
    corpus: Annotated[
        Path | None, typer.Option(help="Learn from this folder of hvisk prepare, which holds train and validation.")
    ] = None,
    general: Annotated[
        list[Path] | None,
        typer.Option(help="Speech of other people, such a folder too: mixed in, and watched; repeatable."),
    ] = None,
    settings: Settings = None,
    hours: Annotated[
        float, typer.Option(min=0, help="Train for so many hours in all, in as many sessions as it takes.")
    ] = 0.0,
    session_hours: Annotated[
        float, typer.Option(min=0, help="Save and leave before this session is so many hours old; exit code 130.")
    ] = 0.0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Insist on going on from a checkpoint, which is done anyway where there is one."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a Whisper as a recipe says; called again after any interruption, it goes on from the last checkpoint."""
    began = time.monotonic()  # before torch is loaded: a session's clock runs meanwhile
    from hvisk.errors import HviskError, require
    from hvisk.report import gather, page
    from hvisk.terminal import percent, talk
    from hvisk.train import preflight
    from hvisk.train import recipe as recipes

    changes = (*_named(start, corpus, general or []), *(settings or ()), *((f"minutes={60 * hours}",) if hours else ()))
    loaded = recipes.load(recipes.find(recipe), changes)
    require("torch", "train", "train a model")
    preflight.check(loaded)
    from hvisk.train import loop
    from hvisk.train.session import Session

    outcome = loop.train(loaded, talk(), Session(hours=session_hours, resume=resume, began=began))
    if not outcome.leads:  # one of several that a launcher started: the first one says it all
        raise typer.Exit(0 if outcome.finished else 130)
    told = Path(loaded.out) / "report.html"
    if outcome.finished:
        page.write(told, gather.gather(Path(loaded.out), ()))
    if as_json:
        before, after = outcome.before.to_dict(), outcome.after.to_dict()
        print_json(
            {
                "model": str(outcome.model),
                "step": outcome.state.step,
                "finished": outcome.finished,
                "published": outcome.finished and not outcome.refused,
                "before": before,
                "after": after,
            }
        )
    elif outcome.finished:
        print(
            f"{outcome.model}: validation WER {percent(outcome.before.wer)} before, {percent(outcome.after.wer)} after"
        )
    if not outcome.finished:
        raise typer.Exit(130)
    if outcome.refused:
        raise HviskError(f"{outcome.refused} Before and after: {told}")
    following(
        f"open {told} in a browser",
        f"hvisk export {loaded.out} --out {loaded.out}/ct2",
        f"or: hvisk evaluate {outcome.model} --on CORPUS",
    )


def _named(start: str, corpus: Path | None, general: list[Path]) -> list[str]:
    """What --from, --corpus and --general change in a recipe; --set goes over it."""

    def text(path: Path) -> str:
        return json.dumps(path.as_posix(), ensure_ascii=False)  # as TOML writes it too

    changes = [f"base={json.dumps(start, ensure_ascii=False)}", *_styles(start)] if start else []
    if corpus:
        mixed = [corpus / "train", *(folder / "train" for folder in general if (folder / "train").is_dir())]
        changes += [f"train=[{', '.join(map(text, mixed))}]", f"validation={text(corpus / 'validation')}"]
    elif general:
        raise typer.BadParameter("--general is mixed with a --corpus; name one, or set train and watch.")
    if general:
        changes.append(f"watch=[{', '.join(text(folder / 'validation') for folder in general)}]")
    return changes


def _styles(start: str) -> list[str]:
    """What lets a model that writes two styles keep both: shares as hvisk's own recipes have them."""
    from hvisk import files, models

    about = models.hugging_face(start) / "hvisk.json"
    styles = files.read_json(about).get("styles") if about.exists() else None
    return ["plain_share=0.2", "previous_share=0.2"] if styles else []


def sweep(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that hvisk brings.")],
    settings: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE,VALUE", help="Values to try; repeated, every combination is tried."),
    ],
    hours: Annotated[float, typer.Option(min=0, help="Train each run for so many hours.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Try values of a recipe's keys in short runs; called again after any interruption, it goes on where it stopped."""
    from hvisk.errors import HviskError, require
    from hvisk.report import swept
    from hvisk.terminal import percent, talk
    from hvisk.train import preflight
    from hvisk.train import recipe as recipes
    from hvisk.train import sweep as sweeps

    runs = sweeps.plan(recipes.find(recipe), (*settings, *((f"minutes={60 * hours}",) if hours else ())))
    require("torch", "train", "train a model")
    for run in runs:
        preflight.check(run.recipe)
    from hvisk.train import loop

    out, console = Path(runs[0].recipe.out).parent, talk()

    def told(row: dict[str, Any]) -> None:
        rates = (
            f"WER {percent(row['after']['wer'])}, CER {percent(row['after']['cer'])}"
            if "after" in row
            else row["error"]
        )
        console.print(f"{len(done) + 1} of {len(runs)}: {row['name']}: {rates}", markup=False)
        done.append(row)

    done: list[dict[str, Any]] = []
    rows = sweeps.sweep(runs, lambda one: loop.train(one, console), told)
    best = sweeps.best(rows)
    swept.write(out / "sweep.html", rows, best["name"] if best else None)
    if as_json:
        print_json({"runs": rows, "best": best["name"] if best else None})
    else:
        sweep_table(rows, best)
    if len(rows) < len(runs) or not (rows[-1]["finished"] or rows[-1]["error"]):
        raise typer.Exit(130)
    if best is None:
        raise HviskError(f"No run of the sweep came to its end; their errors are in {out / 'sweep.json'}.")
    changes = " ".join(f"--set {key}={value}" for key, value in best["values"].items())
    following(f"hvisk train {recipe} {changes}", f"or open {out / 'sweep.html'} in a browser")


def sweep_table(rows: list[dict[str, Any]], best: dict[str, Any] | None) -> None:
    """Print the runs of a sweep, one a line."""
    from rich.console import Console
    from rich.table import Table

    from hvisk.terminal import percent

    keys = list(rows[0]["values"])
    table = Table(*keys, "WER", "CER", "steps", "minutes", "")
    for row in rows:
        cells = [row["values"][key] for key in keys]
        if row["error"]:
            table.add_row(*cells, "-", "-", "-", "-", row["error"])
            continue
        rates = [percent(row["after"][rate]) for rate in ("wer", "cer")]
        note = "best" if row is best else "" if row["finished"] else "interrupted"
        table.add_row(*cells, *rates, str(row["step"]), f"{row['minutes']:.1f}", note)
    Console().print(table)
