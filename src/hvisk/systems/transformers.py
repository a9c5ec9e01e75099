"""Any speech recogniser that Hugging Face's transformers carries, decoded by its own pipeline.

Whisper is padded to 30 s, as its makers do; CTC models (wav2vec2, Parakeet and their kin) are decoded greedily, or by the
n-gram language model that their repository has; transducers by their own rules. All but Whisper go clip by clip: a padded
batch would change what many of them hear.
"""

import contextlib
import hashlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import files
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import MissingExtra, ModelError, require
from hvisk.features import MAX_SECONDS
from hvisk.recogniser.engine import ONEDNN_CACHE
from hvisk.systems.system import System, size, versions

WHISPER_BATCH = 8  # clips
WITHOUT = "#no-lm"
_PROMPT_TOKENS = 8  # of Whisper's 448 positions, at most: start, language, task, no timestamps, and some air


def open_transformers(model: str, name: str, *, language: str = "da", beam_size: int = 1, threads: int = 0) -> System:
    """Open a model: a directory, a training run's, or a Hub id, "owner/name" or "owner/name@revision".

    A CTC model with an n-gram language model is decoded with it, unless "#no-lm" follows the name. Raises MissingExtra
    without torch or transformers, and where the language model's packages are missing: greedy decoding is another
    system. ModelError for what cannot be opened as a speech recogniser.
    """
    for package in ("torch", "transformers"):
        require(package, "train", f"open {name}")
    if "torch" not in sys.modules and os.environ.get(ONEDNN_CACHE[0]) == ONEDNN_CACHE[1]:
        del os.environ[ONEDNN_CACHE[0]]  # the engine's own, and too few for torch
    import torch
    from transformers import pipeline
    from transformers.utils import cached_file

    place, _, revision = model.removesuffix(WITHOUT).partition("@")
    if not Path(place, "config.json").exists() and Path(place, "model", "config.json").exists():
        place = str(Path(place, "model"))  # a training run
    if threads:
        torch.set_num_threads(threads)
    try:
        with _quiet():
            if _has_language_model(place, revision or None) and not model.endswith(WITHOUT):
                _need_decoder(name)
            asr = pipeline(
                "automatic-speech-recognition",
                model=place,
                revision=revision or None,
                device="cuda:0" if torch.cuda.is_available() else "cpu",
            )
        directory = Path(cached_file(place, "config.json", revision=revision or None)).parent
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ModelError(
            f"transformers cannot open {place} as a speech recogniser: {' '.join(str(error).split())} "
            "Accepted after hf: are a directory with config.json, weights and processor, or a Hub id."
        ) from error
    net = asr.model
    if model.endswith(WITHOUT) and asr.type == "ctc_with_lm":
        asr.type = "ctc"
    whisper = net.config.model_type == "whisper"
    decoding = _decoding(net, language, beam_size) if asr.type.startswith("seq2seq") else {}

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        texts: list[str] = []
        with _quiet(), torch.inference_mode():
            if whisper and clips and all(len(clip) <= MAX_SECONDS * SAMPLE_RATE for clip in clips):
                answers = asr(
                    [_input(clip) for clip in clips], batch_size=WHISPER_BATCH, generate_kwargs=dict(decoding)
                )
                texts = [answer["text"] for answer in answers]
            else:
                for clip in clips:
                    # Beyond a window Whisper goes from timestamp to timestamp, so that it must write them.
                    long = whisper and len(clip) > MAX_SECONDS * SAMPLE_RATE
                    extra = {"return_timestamps": True} if long else {}
                    given = {"generate_kwargs": {**decoding}} if decoding else {}
                    texts.append(asr(_input(clip), **given, **extra)["text"])
        return [text.strip() for text in texts]

    weights = sorted(directory.glob("*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))
    commit = getattr(net.config, "_commit_hash", None)
    identity = {"revision": commit} if commit else {"model_sha256": _content(directory, weights)}
    return System(
        name=name,
        kind="transformers",
        recognise=recognise,
        settings={
            "model": name,
            **identity,
            "system": "transformers",
            "class": type(net).__name__,
            "dtype": str(net.dtype).removeprefix("torch."),
            "decoder": asr.type,
            **{"language": "the model's own", **decoding},
        },
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        bytes=size(weights),
        software=versions("transformers", "torch", *(("pyctcdecode", "kenlm") if asr.type == "ctc_with_lm" else ())),
        about=files.read_json(directory / "hvisk.json") if (directory / "hvisk.json").exists() else {},
    )


def _has_language_model(place: str, revision: str | None) -> bool:
    """Whether a repository's processor is one with an n-gram language model, as transformers itself sees it."""
    from transformers.feature_extraction_utils import FeatureExtractionMixin

    try:
        settings, _ = FeatureExtractionMixin.get_feature_extractor_dict(place, revision=revision)
    except OSError:
        return False  # no settings of that kind: whether it is a speech recogniser at all is seen next
    return str(settings.get("processor_class") or "").endswith("WithLM")


def _need_decoder(name: str) -> None:
    """Without these transformers would decode greedily, and the figures would be called the same."""
    missing = [package for package in ("pyctcdecode", "kenlm") if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingExtra(
            f"{name} has a language model, and decoding with it needs {' and '.join(missing)}. Run: pip install "
            f"{' '.join(missing)}; or evaluate it without its language model, as {name}{WITHOUT}"
        )


def _decoding(net: Any, language: str, beam_size: int) -> dict[str, Any]:
    decoding: dict[str, Any] = {"num_beams": beam_size, "do_sample": False}
    if net.config.model_type == "whisper":
        decoding["max_new_tokens"] = net.config.max_target_positions - _PROMPT_TOKENS
        if getattr(net.generation_config, "lang_to_id", None):  # an English-only one has no languages to choose from
            decoding |= {"language": language, "task": "transcribe"}
    return decoding


def _input(clip: NDArray[np.float32]) -> dict[str, Any]:
    return {"raw": clip, "sampling_rate": SAMPLE_RATE}


def _content(directory: Path, weights: list[Path]) -> str:
    """One SHA-256 over the weights and every setting and vocabulary beside them."""
    others = [path for path in directory.iterdir() if path.suffix in (".json", ".txt", ".model", ".jinja")]
    lines = [f"{path.name} {files.sha256(path)}\n" for path in sorted([*weights, *others])]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers warns of its own defaults, at every call and in two ways, and draws a bar for every file it reads."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
