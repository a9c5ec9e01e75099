"""Checkpoints: whole directories that appear at once, each a model for any tool and a state that training resumes from.

run/checkpoints/000400/
  model.safetensors, config.json, tokenizer.json ...   a Hugging Face Whisper
  state.pt                                             optimiser, scaler, CTC head, place in the data, time used

With a moving average of the weights the model is the average, and the weights that training goes on with are in state.pt.
"""

import contextlib
import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hvisk import files
from hvisk.train import model as whisper
from hvisk.train.average import Average
from hvisk.train.batches import Position
from hvisk.train.model import Whisper


@dataclass(frozen=True)
class State:
    """Where a run stands, besides its weights. seconds: of training so far; audio_seconds: learnt from so far."""

    step: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0
    audio_seconds: float = 0.0
    skipped: int = 0  # steps left out because their loss was not finite
    best_cer: float | None = None
    best_step: int | None = None
    broken: int = 0  # damaged clips that were met and left out


def save(
    run: Path,
    model: Whisper,
    state: State,
    optimizer: Any,
    scaler: Any,
    about: dict[str, Any],
    *,
    keep: int,
    average: Average | None = None,
) -> Path:
    """Write the checkpoint of `state.step`, then delete all but the newest `keep` and the best one."""
    directory = run / "checkpoints" / f"{state.step:06d}"
    with files.atomic_directory(directory) as temporary:
        with average.worn() if average else contextlib.nullcontext():
            whisper.save(model, temporary, about)
        torch.save(
            {
                "state": dataclasses.asdict(state),
                "optimizer": optimizer.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "letters": model.letters.state_dict(),
                "learnt": average.learnt() if average else None,
            },
            temporary / "state.pt",
        )
    for old in found(run)[:-keep]:
        if int(old.name) != state.best_step:
            # Under another name first: killed in the middle, the rest of it is no checkpoint.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))
    return directory


def found(run: Path) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    whole = (p for p in (run / "checkpoints").glob("[0-9]*") if p.name.isdecimal() and (p / "state.pt").exists())
    return sorted(whole, key=lambda path: int(path.name))


def sweep(run: Path) -> None:
    """Delete what a killed process left half written or half deleted: it may be as large as a checkpoint."""
    for path in [*run.glob(".*"), *run.glob("*/.*")]:
        if ".partial" in path.suffixes or path.suffix == ".old":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def restore(directory: Path, model: Whisper, optimizer: Any, scaler: Any, average: Average | None = None) -> State:
    """Load the optimiser's and the CTC head's state into place; the weights come from `model.load(directory)`.

    average: of the model so loaded; what it then holds goes into the average, and the model gets its own weights back.
    """
    # To the CPU, whence each goes to its parameter's device; AdamW's step counts belong here and are slow elsewhere.
    saved = torch.load(directory / "state.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(saved["optimizer"])
    if scaler is not None and saved["scaler"] is not None:
        scaler.load_state_dict(saved["scaler"])
    model.letters.load_state_dict(saved["letters"])
    if average:
        average.restore(saved["learnt"])
    state = dict(saved["state"])
    return State(**{**state, "position": Position(**state["position"])})
