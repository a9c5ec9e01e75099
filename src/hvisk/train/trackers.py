"""The measurements of a run in TensorBoard, Trackio or Weights & Biases, for whoever asks; log.jsonl has them always."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hvisk.errors import MissingExtra
from hvisk.train.recipe import Recipe

Track = Callable[[Mapping[str, Any]], None]


def check(recipe: Recipe) -> None:
    """Raise MissingExtra where the recipe's tracker is not installed."""
    if recipe.tracker and find_spec(recipe.tracker) is None:
        raise MissingExtra(
            f"tracker = '{recipe.tracker}' needs the package '{recipe.tracker}', which is not installed. "
            f"Run: pip install {recipe.tracker}. Or leave tracker out: log.jsonl has every measurement."
        )


@contextlib.contextmanager
def tracking(recipe: Recipe, leads: bool) -> Iterator[Track]:
    """Yield what hands a line of the log to the recipe's tracker; it does nothing without one, and in further processes.

    A resumed run goes on in the same place: TensorBoard's files in the run directory, elsewhere a run of the same name.
    """
    if not recipe.tracker or not leads:
        yield lambda line: None
        return
    from accelerate import tracking as trackers

    run = Path(recipe.out)
    tracker: Any
    if recipe.tracker == "tensorboard":
        tracker = trackers.TensorBoardTracker("tensorboard", run)
    elif recipe.tracker == "wandb":
        settings = {"name": run.name, "id": run.name, "resume": "allow", "config": recipe.plain()}
        tracker = trackers.WandBTracker("hvisk", dir=run, **settings)
    else:
        tracker = trackers.TrackioTracker("hvisk", name=run.name, resume="allow", config=recipe.plain())
    tracker.start()
    try:
        yield lambda line: tracker.log(numbers(line), step=line["step"])
    finally:
        tracker.finish()


def numbers(line: Mapping[str, Any]) -> dict[str, float]:
    """Return what a tracker draws of a line of the log, rates as fractions."""
    scores = {"validation": line["score"], **line["watched"]}
    found = {"train/loss": line["loss"], "train/minutes": line["minutes"], "train/skipped": line["skipped"]}
    found |= {f"{name}/{rate}": score[rate] for name, score in scores.items() for rate in ("wer", "cer")}
    return {key: value for key, value in found.items() if value is not None and math.isfinite(value)}
