"""What can be told of a training run before torch is loaded, which takes seconds: missing corpora, and too little memory."""

import contextlib
import difflib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hvisk import features, files, models
from hvisk.corpora import sources
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError, RecipeError
from hvisk.train.recipe import Recipe

BYTES_A_WEIGHT = 16  # float32: itself, its gradient and Adam's two averages
LABELS_A_SECOND = 8  # tokens of quick speech
SMALL_VOCABULARY = 256  # of a model with random weights, about
GIGABYTE = 1e9

# Bytes a channel, position and layer that the backward pass needs in half precision. Korthikanti et al. 2022, arXiv
# 2205.05198, equation 2, has 34 without the attention's own; 65 were measured (tensors saved by a bf16 step of Whisper).
KEPT = 65


@dataclass(frozen=True)
class Shape:
    """What the memory of a Whisper depends on."""

    width: int
    encoder_layers: int
    decoder_layers: int
    vocabulary: int


def check(recipe: Recipe) -> None:
    """Raise CorpusError for corpora that are not there, RecipeError for a mix or sizes that cannot be trained."""
    trained = [path for path in recipe.train if path not in recipe.streams]
    named = [("train", path) for path in trained] + [("validation", recipe.validation)]
    named += [("watch", path) for path in recipe.watch]
    missing = [f"{key}: {path}{_near(Path(path))}" for key, path in named if not Path(path).is_dir()]
    if missing:
        raise CorpusError(f"There is no corpus at {'; '.join(missing)}. Make them with: {_commands(named)}")
    stores = {path: Store.open(Path(path)) for _, path in named}
    held = {path: set(store.ids) for path, store in stores.items()}
    for key, path in named[len(trained) :]:
        for learnt in trained:
            shared = held[path] & held[learnt]
            if shared:
                raise RecipeError(
                    f"{key} = {path} shares {len(shared)} clips with train = {learnt} (the first: {min(shared)}). What is "
                    "measured on them would be flattering; prepare disjoint splits."
                )
    found, room = shape(recipe), free_memory()
    if found and room:
        fits(recipe, found, *room)


def memory(recipe: Recipe, shape: Shape, *, gpu: bool, seconds: float) -> float:
    """Return about how many bytes one process needs for a step on so many seconds of audio.

    Weights and what Adam keeps, then what the backward pass needs: KEPT bytes a channel, position and layer in half
    precision, twice that in float32, and the scores over the vocabulary. Told too low rather than too high: what fits
    must not be refused.
    """
    s, width = shape, shape.width
    layers = s.encoder_layers * 12 + s.decoder_layers * 16
    weights = layers * width**2 + (s.vocabulary + 1500 + 448 + 3 * recipe.mels + 3 * width) * width
    heard = seconds * features.FRAMES_PER_SECOND / features.ENCODER_STRIDE
    said = seconds * LABELS_A_SECOND
    kept = (KEPT if gpu else 2 * KEPT) * width * (heard * s.encoder_layers + 1.5 * said * s.decoder_layers)
    return BYTES_A_WEIGHT * weights + kept + 3 * 4 * said * s.vocabulary


def shape(recipe: Recipe) -> Shape | None:
    """Return the shape of the recipe's model, of a base its config.json's; None where the base is not on this machine."""
    if not recipe.base:
        return Shape(recipe.width, recipe.encoder_layers, recipe.decoder_layers, SMALL_VOCABULARY)
    if not (recipe.base.startswith("hvisk:") or Path(recipe.base).expanduser().is_dir()):
        return None
    config = files.read_json(models.hugging_face(recipe.base) / "config.json")
    keys = ("d_model", "encoder_layers", "decoder_layers", "vocab_size")
    if not all(key in config for key in keys):
        return None
    found = Shape(*(int(config[key]) for key in keys))
    return replace(found, vocabulary=min(found.vocabulary, recipe.vocabulary or found.vocabulary))


def free_memory() -> tuple[float, int] | None:
    """Return the free bytes of the fullest GPU and the number of GPUs; of this machine, and 0, without one."""
    if shutil.which("nvidia-smi") and os.environ.get("CUDA_VISIBLE_DEVICES", "0"):
        ask = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            free = [
                float(line) for line in subprocess.run(ask, capture_output=True, timeout=5, check=True).stdout.split()
            ]
            return min(free) * 2**20, len(free)
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024, 0
    return None


def fits(recipe: Recipe, shape: Shape, room: float, gpus: int) -> None:
    """Raise RecipeError where a step does not fit into `room` bytes, of each of the GPUs or of a machine without any."""
    size = recipe.processes or max(1, gpus)
    together = 1 if gpus else size  # on a CPU they share it
    needed, fixed = (
        together * memory(recipe, shape, gpu=gpus > 0, seconds=seconds)
        for seconds in (recipe.batch_seconds / size, 0.0)
    )
    if needed <= room:
        return
    possible = int(recipe.batch_seconds * (room - fixed) / (needed - fixed) / 10) * 10
    smaller = "Start from a smaller base" if recipe.base else f"Set a width below {recipe.width}"
    raise RecipeError(
        f"batch_seconds = {recipe.batch_seconds:g} needs about {needed / GIGABYTE:.1f} GB at this model's size, and "
        f"{'a GPU' if gpus else 'this machine'} has {room / GIGABYTE:.1f} GB free. "
        f"{f'Set batch_seconds={possible}' if possible >= 30 * size else smaller}."
    )


def _commands(named: Sequence[tuple[str, str]]) -> str:
    """How the missing corpora are made, those that hvisk knows by name word for word."""
    known = {source.name for source in sources.known()}
    folders = dict.fromkeys(Path(path).parent for _, path in named if not Path(path).is_dir())
    made = [f"hvisk prepare {f.name} --out {f}" for f in folders if f.name in known]
    return "; ".join(made) or "hvisk prepare"


def _near(path: Path) -> str:
    """The folder beside a missing one that its name was most likely meant to be."""
    beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    return f" (did you mean {path.parent / near[0]}?)" if near else ""
