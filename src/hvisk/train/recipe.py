"""A training recipe: one flat TOML file of typed keys, whose resolved copy is saved beside the weights."""

import dataclasses
import difflib
import importlib.resources
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hvisk.errors import RecipeError


@dataclass(frozen=True)
class Recipe:
    """Every setting of a training run. Keys of the TOML file, and of `hvisk train --set key=value`, are these names."""

    # What is made of what
    out: str  # run directory: checkpoints, log, and the finished model
    train: tuple[str, ...]  # corpora to learn from: directories made by `hvisk prepare`
    validation: str  # corpus that chooses the best checkpoint; never a test set
    base: str = ""  # model to start from: a Hugging Face Whisper directory or Hub id; empty for random weights
    language: str = "da"

    # Shape of a model with random weights; with a base its own shape holds
    width: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 2
    heads: int = 3
    mels: int = 80
    letters: str = "abcdefghijklmnopqrstuvwxyzæøåäöüéß"  # each of these, and its capital, is one token

    # Budget: the first of the two that is set and reached ends the run; the schedule follows the larger share used
    steps: int = 0  # 0: no limit
    minutes: float = 0.0  # of training, evaluations left out; 0: no limit

    # Batches
    batch_seconds: float = 160.0  # audio a step: clips times the longest one; the margin comes on top
    padded_share: float = 0.0  # share of batches padded to 30 s, so that stock runtimes stay good
    margin: int = 64  # up to so many frames (10 ms) of silence are added at random, before and behind the clip

    # Optimiser: AdamW, linear warm-up, then linear decay over the budget
    learning_rate: float = 3e-4
    warmup: float = 0.05  # share of the budget
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    ctc_weight: float = 0.0  # weight of an auxiliary CTC loss over letters on the encoder
    dropout: float = 0.0
    activation_dropout: float = 0.0

    # On the log-mel: other voices (each clip's mel axis stretched by up to this share), then SpecAugment's masks
    warp: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 20
    frequency_masks: int = 0
    frequency_mask_bins: int = 10

    # Watching
    evaluate_every: int = 200  # steps
    validation_clips: int = 100
    checkpoint_every: int = 200  # steps
    keep_checkpoints: int = 2

    # Machine
    processes: int = (
        1  # on a CPU: so many share the cores and every step's audio; on 2 cores 2 are 2 to 6 % faster than 1
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    loader_threads: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        _check(self.steps > 0 or self.minutes > 0, "A recipe needs a budget: set steps or minutes above 0.")
        _check(bool(self.train), "train is empty: name at least one corpus directory made by hvisk prepare.")
        _check(self.learning_rate > 0, f"learning_rate = {self.learning_rate}: it must be above 0.")
        share = self.batch_seconds / max(1, self.processes)
        _check(share >= 30, f"batch_seconds = {self.batch_seconds}: at least 30, the longest clip, for each process.")
        _check(self.clip_norm > 0, f"clip_norm = {self.clip_norm}: it must be above 0.")
        for key in ("padded_share", "warmup", "label_smoothing", "dropout", "activation_dropout", "ctc_weight", "warp"):
            value = getattr(self, key)
            _check(0 <= value <= 1, f"{key} = {value}: it must be between 0 and 1.")
        shape = ("width", "encoder_layers", "decoder_layers", "heads")
        every = (
            "evaluate_every",
            "validation_clips",
            "checkpoint_every",
            "keep_checkpoints",
            "loader_threads",
            "processes",
        )
        for key in (*shape, *every):
            _check(getattr(self, key) >= 1, f"{key} = {getattr(self, key)}: it must be at least 1.")
        masks = ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins")
        for key in ("steps", "minutes", "margin", "weight_decay", *masks, "seed"):
            _check(getattr(self, key) >= 0, f"{key} = {getattr(self, key)}: it must not be negative.")
        _check(self.width % self.heads == 0, f"width = {self.width} is not a multiple of heads = {self.heads}.")
        _check(self.mels in (80, 128), f"mels = {self.mels}: Whisper has 80 or 128.")
        overlap = set(self.train) & {self.validation}
        _check(not overlap, f"{self.validation} is both training and validation corpus; use another split to validate.")


def find(name: str) -> Path:
    """Return the file of a recipe: a path as it is, or the name of one that hvisk brings."""
    if name.endswith(".toml") or Path(name).is_file():
        return Path(name)
    brought = Path(str(importlib.resources.files("hvisk"))) / "recipes"
    names = sorted(path.stem for path in brought.glob("*.toml"))
    if name not in names:
        raise RecipeError(f"There is no recipe '{name}'. Accepted: a TOML file, or one of hvisk's: {', '.join(names)}.")
    return brought / f"{name}.toml"


def load(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe file and apply `key=value` overrides, whose values are TOML (bare words are taken as strings)."""
    if not path.is_file():
        raise RecipeError(f"There is no recipe at {path}. Accepted: a TOML file, or one of hvisk's own, such as demo.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        _check(bool(equals), f"--set {override}: write it as key=value, for example --set learning_rate=2e-4.")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text
    return resolve(values, str(path))


def resolve(values: dict[str, Any], where: str) -> Recipe:
    """Build a recipe from plain values; RecipeError names an unknown key (and the nearest one) or a wrong type."""
    hints = typing.get_type_hints(Recipe)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(hints)}."
            raise RecipeError(f"{where}: unknown key '{key}'. {hint}")
        checked[key] = _typed(key, value, hints[key], where)
    required = {f.name for f in dataclasses.fields(Recipe) if f.default is dataclasses.MISSING}
    missing = sorted(required - checked.keys())
    if missing:
        raise RecipeError(f"{where}: missing {', '.join(missing)}.")
    try:
        return Recipe(**checked)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None


def _typed(key: str, value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value not in typing.get_args(hint):
            options = ", ".join(repr(v) for v in typing.get_args(hint))
            raise RecipeError(f"{where}: {key} = {value!r}; accepted are {options}.")
        return value
    if origin is tuple:
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise RecipeError(f"{where}: {key} = {value!r}; accepted is a list of strings.")
        return tuple(items)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{where}: {key} = {value!r} is a {_name(type(value))}; accepted is a {_name(hint)}.")
    return value


def _name(hint: Any) -> str:
    names = {int: "whole number", float: "number", str: "string", bool: "truth value"}
    return names.get(hint) or str(hint.__name__)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise RecipeError(message)
