"""hvisk demo, train and export: a corpus becomes a model."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Json, Out, Quantise, Settings, following, print_json


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
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a Whisper as a recipe says; called again after any interruption, it goes on from the last checkpoint."""
    from hvisk.errors import require
    from hvisk.terminal import percent, talk

    require("torch", "train", "train a model")
    from hvisk.train import loop
    from hvisk.train import recipe as recipes

    loaded = recipes.load(recipes.find(recipe), tuple(settings or ()))
    outcome = loop.train(loaded, talk())
    if as_json:
        before, after = outcome.before.to_dict(), outcome.after.to_dict()
        print_json(
            {
                "model": str(outcome.model),
                "step": outcome.state.step,
                "finished": outcome.finished,
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
    following(f"hvisk export {loaded.out} --out {loaded.out}/ct2", f"or: hvisk evaluate {outcome.model} --on CORPUS")


def export(
    model: Annotated[str, typer.Argument(help="A training run, a Hugging Face Whisper directory, or a Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for the CTranslate2 model.")],
    on: Annotated[
        Path | None, typer.Option(help="Corpus to prove it on; by default what the model was validated with.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Prove it on so many clips.")] = 200,
    quantise: Quantise = "auto",
    force: Annotated[bool, typer.Option("--force", help="Write the export even if it says something else.")] = False,
    as_json: Json = False,
) -> None:
    """Export for recognition without torch, and prove on held-out clips that the result says what the checkpoint says."""
    from hvisk import models
    from hvisk.errors import require
    from hvisk.terminal import talk

    require("torch", "train", "compare an export with its checkpoint")
    from hvisk.train import proof

    source = models.hugging_face(model)
    parity = proof.export(source, out, on=on, clips=clips, quantisation=quantise, force=force, tell=talk().print)
    if as_json:
        print_json(parity.to_dict())
    else:
        print(f"{out}: {parity}")
    following(f"hvisk transcribe FILE --model {out}")
