"""A training recipe: one flat TOML file of typed keys, whose resolved copy is saved beside the weights."""

import dataclasses
import difflib
import importlib.resources
import itertools
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hvisk.errors import RecipeError

STREAM = "stream:"  # before the name of a corpus that is not prepared, but heard straight from the Hub


@dataclass(frozen=True)
class Recipe:
    """Every setting of a training run. Keys of the TOML file, and of `hvisk train --set key=value`, are these names."""

    # What is made of what
    out: str  # run directory: checkpoints, log, and the finished model
    train: tuple[str, ...]  # corpora: directories made by `hvisk prepare`, or all "stream:NAME", straight from the Hub
    validation: str  # corpus that chooses the best checkpoint; never a test set
    # Corpora whose clips are refused in training; those beside one in train and named test or validation always are
    tests: tuple[str, ...] = ()
    allow_test_clips: tuple[str, ...] = ()  # those of them whose clips may be learnt all the same
    base: str = ""  # model to start from: a Hugging Face Whisper directory or Hub id; empty for random weights
    vocabulary: int = 0  # tokens left of the base's: those that the corpora's texts need most; 0: all of them
    language: str = "da"

    # Shape of a model with random weights; with a base its own shape holds
    width: int = 192
    encoder_layers: int = 4
    decoder_layers: int = 2
    heads: int = 3
    mels: int = 80
    letters: str = "abcdefghijklmnopqrstuvwxyzæøåäöüéß"  # each of these, and its capital, is one token

    # Budget: the first of these that is set and reached ends the run; the schedule follows the largest share used
    steps: int = 0  # 0: no limit
    epochs: float = 0.0  # as much audio as the corpora hold, so many times; 0: no limit
    minutes: float = 0.0  # of training, evaluations left out, over as many sessions as it takes; 0: no limit

    # Batches
    batch_seconds: float = 160.0  # audio a step: clips times the longest one; the margin comes on top
    margin: int = 64  # up to so many frames (10 ms) of silence are added at random, before and behind the clip

    # Mixing of corpora in an epoch: how often each is heard, or a temperature that lifts the small ones (1: all once)
    weights: tuple[float, ...] = ()
    temperature: float = 1.0

    # Views: how clips are heard
    packed_share: float = 0.0  # of the seconds of speech: clips of one speaker joined, up to 30 s
    padded_share: float = 0.0  # of all that the encoder hears: padded to 30 s, so that stock runtimes stay good
    timestamps: float = 0.0  # share of windows whose labels carry the times of their clips, as stock runtimes ask for
    previous_share: float = 0.0  # share of windows that have another text of their speaker in front, as context
    silence_share: float = 0.0  # share of windows in which nobody speaks, with an empty text

    # Above 0 two styles are taught: cased and punctuated text by default, and plain text on request. So many of the windows
    # with cased and punctuated texts are taught as plain ones, and texts that are not so always are; see hvisk.style
    plain_share: float = 0.0

    # Optimiser: AdamW, linear warm-up, then linear decay over the budget
    finish: Literal["", "own-length"] = ""  # own-length: teach no text, only to hear at a clip's own length as at 30 s
    learning_rate: float = 3e-4
    warmup: float = 0.05  # share of the budget
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    ctc_weight: float = 0.0  # weight of an auxiliary CTC loss over letters on the encoder
    dropout: float = 0.0
    activation_dropout: float = 0.0

    # On the sound, drawn for each clip by itself, in this order; 0 changes nothing
    speed: float = 0.0  # played between 1 - speed and 1 + speed times as fast, pitch and all
    reverb_share: float = 0.0  # share of clips that are put into a synthetic room
    rt60_low: float = 0.15  # seconds in which sound falls by 60 dB in the driest room,
    rt60_high: float = 0.8  # and in the most echoing one
    babble_share: float = 0.0  # share with other clips of the batch talking behind them
    noise_share: float = 0.0  # share with white, pink or brown noise
    recording_share: float = 0.0  # share with a noise from noise_folder
    noise_folder: str = ""  # sound files in which nobody speaks, also in folders below it
    noise_snr_low: float = 5.0  # dB that a clip is above its babble, noise or recording, at least
    noise_snr_high: float = 30.0  # and at most
    band_share: float = 0.0  # share that loses what is below and above a band, as with a cheap microphone
    telephone_share: float = 0.0  # share heard over a telephone: 300 to 3400 Hz, 8 bits by the mu-law
    codec_share: float = 0.0  # share with few bits and a narrow band, as a lossy codec leaves it
    gain_db: float = 0.0  # louder or softer by up to so much; never louder than full scale

    # On the text, while it is taught: the share of the tokenizer's merges that are left out at random, so that a word is
    # not always the same tokens (Provilkov et al. 2020, arXiv 1910.13267)
    bpe_dropout: float = 0.0

    # On the log-mel: other voices (each clip's mel axis stretched by up to this share), then SpecAugment's masks
    warp: float = 0.0
    time_masks: int = 0
    time_mask_frames: int = 20
    frequency_masks: int = 0
    frequency_mask_bins: int = 10

    ema: float = 0.0  # decay a step of a moving average of the weights, which is measured and published; 0: none

    # Watching
    evaluate_every: int = 200  # steps
    validation_clips: int = 100
    validation_seconds: float = 120.0  # as many of the clips as the baseline decodes in this time; 0: all of them
    watch: tuple[str, ...] = ()  # corpora of other kinds of speech, measured as well: a warning when one gets worse
    # Points of WER that each of those may get worse by, from before training to its end; else no model is published
    forgetting_margin: float = 1.0
    # Shares of the way from the base to the trained model, falling, that are tried one after the other until it surely is not
    blend: tuple[float, ...] = ()
    tracker: Literal["", "tensorboard", "trackio", "wandb"] = ""  # beside log.jsonl, which is always written

    # Checkpoints
    checkpoint_every: int = 200  # steps
    keep_checkpoints: int = 2
    push_to: str = ""  # OWNER/NAME on the Hub, private: checkpoints are pushed there, and an empty run goes on from it

    # Machine
    processes: int = 0  # that share every step's audio; 0: one a GPU, on a CPU one (two on 2 cores are 2 to 6 % faster)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    loader_threads: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        _check(
            self.steps > 0 or self.minutes > 0 or self.epochs > 0,
            "A recipe needs a budget: set steps, epochs or minutes above 0.",
        )
        _check(bool(self.train), "train is empty: name at least one corpus directory made by hvisk prepare.")
        streamed = len(self.streams)
        _check(
            streamed in (0, len(self.train)),
            f"train = {list(self.train)}: prepared corpora and streams do not mix. Prepare all: hvisk prepare NAME.",
        )
        if streamed:
            _check(not self.epochs, "epochs: nobody has counted what a stream holds; set steps or minutes.")
            _check(not self.vocabulary, "vocabulary: a stream's texts are not known before; trim the base: hvisk trim.")
            _check(
                not self.weights and self.temperature == 1, "weights and temperature mix prepared corpora, not streams."
            )
        _check(self.vocabulary >= 0, f"vocabulary = {self.vocabulary}: so many tokens, or 0 for all of the base's.")
        if self.vocabulary:
            _check(bool(self.base), f"vocabulary = {self.vocabulary} trims a base; name one, or set letters instead.")
        if self.finish:
            _check(bool(self.base), f"finish = '{self.finish}' is for a trained model: name it as base.")
            rate = f"finish = '{self.finish}' with learning_rate = {self.learning_rate} would undo what the base knows"
            _check(self.learning_rate <= 1e-4, f"{rate}: at most 1e-4, and 1e-5 is a good start.")
            for key in ("ctc_weight", "label_smoothing"):
                _check(not getattr(self, key), f"finish = '{self.finish}' has a loss of its own: set {key} to 0.")
        _check(self.learning_rate > 0, f"learning_rate = {self.learning_rate}: it must be above 0.")
        share = self.batch_seconds / max(1, self.processes)
        _check(share >= 30, f"batch_seconds = {self.batch_seconds}: at least 30, the longest clip, for each process.")
        _check(self.clip_norm > 0, f"clip_norm = {self.clip_norm}: it must be above 0.")
        views = ("packed_share", "padded_share", "timestamps", "previous_share", "plain_share")
        for key in (*views, "warmup", "label_smoothing", "dropout", "activation_dropout", "ctc_weight", "warp"):
            value = getattr(self, key)
            _check(0 <= value <= 1, f"{key} = {value}: it must be between 0 and 1.")
        _check(
            not self.plain_share or self.previous_share > 0,
            f"plain_share = {self.plain_share} with previous_share = 0: a model that is never told anything but to write "
            "plainly takes whatever it is told for that. Set previous_share to 0.2.",
        )
        shape = ("width", "encoder_layers", "decoder_layers", "heads")
        every = ("evaluate_every", "validation_clips", "checkpoint_every", "keep_checkpoints", "loader_threads")
        for key in (*shape, *every):
            _check(getattr(self, key) >= 1, f"{key} = {getattr(self, key)}: it must be at least 1.")
        masks = ("time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_bins")
        budget = ("steps", "epochs", "minutes", "validation_seconds")
        for key in (*budget, "margin", "weight_decay", *masks, "processes", "seed"):
            _check(getattr(self, key) >= 0, f"{key} = {getattr(self, key)}: it must not be negative.")
        noises = ("babble_share", "noise_share", "recording_share")
        for key in ("reverb_share", *noises, "band_share", "telephone_share", "codec_share", "bpe_dropout"):
            _check(0 <= getattr(self, key) <= 1, f"{key} = {getattr(self, key)}: it must be between 0 and 1.")
        _check(0 <= self.speed <= 0.3, f"speed = {self.speed}: between 0 and 0.3, where speech is still speech.")
        _check(0 <= self.gain_db <= 60, f"gain_db = {self.gain_db}: it must be between 0 and 60.")
        for low, high in (("rt60_low", "rt60_high"), ("noise_snr_low", "noise_snr_high")):
            given = getattr(self, low), getattr(self, high)
            _check(given[0] <= given[1], f"{low} = {given[0]} is above {high} = {given[1]}; exchange them.")
        _check(self.rt60_low >= 0.1, f"rt60_low = {self.rt60_low}: at least 0.1 s, the driest of rooms.")
        _check(self.rt60_high <= 5, f"rt60_high = {self.rt60_high}: at most 5 s, a cathedral.")
        _check(
            not self.recording_share or bool(self.noise_folder),
            f"recording_share = {self.recording_share} needs noise_folder: name a folder of sound files, or set it to 0.",
        )
        _check(0 <= self.silence_share < 1, f"silence_share = {self.silence_share}: it must be at least 0 and below 1.")
        _check(self.temperature >= 1, f"temperature = {self.temperature}: at least 1, which hears every clip once.")
        if self.weights:
            _check(
                len(self.weights) == len(self.train), f"weights = {list(self.weights)}: one for each corpus in train."
            )
            _check(all(w >= 0 for w in self.weights) and any(self.weights), "weights: none negative, one above 0.")
            _check(self.temperature == 1, "weights and temperature both say how corpora are mixed; set one of them.")
        _check(self.width % self.heads == 0, f"width = {self.width} is not a multiple of heads = {self.heads}.")
        _check(self.mels in (80, 128), f"mels = {self.mels}: Whisper has 80 or 128.")
        _check(self.forgetting_margin >= 0, f"forgetting_margin = {self.forgetting_margin}: it must not be negative.")
        _check(
            all(0 < share < before for before, share in itertools.pairwise((1.0, *self.blend))),
            f"blend = {list(self.blend)}: shares below 1 and above 0, the largest first.",
        )
        _check(not self.blend or bool(self.base), "blend goes back towards a base: name it, hvisk train --from MODEL.")
        _check(0 <= self.ema < 1, f"ema = {self.ema}: at least 0 and below 1, for example 0.999.")
        _check(
            not self.push_to or self.push_to.count("/") == 1,
            f"push_to = '{self.push_to}': accepted is OWNER/NAME, a repository on the Hub.",
        )
        overlap = set(self.train) & {self.validation}
        _check(not overlap, f"{self.validation} is both training and validation corpus; use another split to validate.")

    @property
    def streams(self) -> tuple[str, ...]:
        """The entries of `train` that are heard straight from the Hub."""
        return tuple(name for name in self.train if name.startswith(STREAM))

    def plain(self) -> dict[str, Any]:
        """Return the keys and values as JSON and TOML have them: lists where this class has tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


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
        of = typing.get_args(hint)[0]
        items = value if isinstance(value, list) else [value]
        return tuple(_typed(key, item, of, where) for item in items)
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
