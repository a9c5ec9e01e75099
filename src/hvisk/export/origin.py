"""A Hugging Face Whisper directory as the exporters read it: its settings, its weights, its vocabulary; each of them checked.

Nothing here needs torch: the weights are read as numpy arrays.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.errors import ModelError
from hvisk.features import ENCODER_STRIDE, FRAMES_PER_SECOND, HOP, N_FFT
from hvisk.files import read_json, sha256
from hvisk.tokens import Tokens

_ARCHITECTURE = "WhisperForConditionalGeneration"
_ENCODER_SIZES = ("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "max_source_positions")
_DECODER_SIZES = ("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "max_target_positions")
_SIZES = ("d_model", "vocab_size", "num_mel_bins", *_ENCODER_SIZES, *_DECODER_SIZES)
_CONVOLUTION = 3  # frames that each of the encoder's two convolutions looks at
# Settings of generation that config.json held until 2023. transformers 5 refuses or warns of some of them there.
FORMER = ("suppress_tokens", "begin_suppress_tokens", "max_length")
# What contradicts a language or task that is asked for, and what names the machine that it was made on.
DROPPED = ("forced_decoder_ids", "_name_or_path", "_from_model_config")
_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


def whisper_config(source: Path) -> dict[str, Any]:
    if (source / "adapter_config.json").exists() and not (source / "config.json").exists():
        raise ModelError(
            f"{source} holds an adapter (LoRA) only. Merge it: model.merge_and_unload().save_pretrained(...)"
        )
    if not (source / "config.json").exists():
        raise ModelError(
            f"{source} is no Whisper model: it holds no config.json. "
            "Accepted: a directory that a Whisper's save_pretrained() has written, such as a checkpoint of hvisk train."
        )
    config = settings(source / "config.json")
    kind = config.get("model_type", "?")
    architecture = (config.get("architectures") or [_ARCHITECTURE])[0]
    if kind != "whisper" or architecture != _ARCHITECTURE:
        raise ModelError(f"{source} holds a {architecture} of type '{kind}'. Accepted: {_ARCHITECTURE} only.")
    if config.get("activation_function", "gelu") != "gelu":
        raise ModelError(
            f"{source} uses the activation '{config['activation_function']}'; CTranslate2's Whisper has gelu."
        )
    if unclear := [key for key in _SIZES if type(config.get(key)) is not int]:
        raise ModelError(
            f"{source / 'config.json'} does not say how large the model is: '{unclear[0]}' is no whole number. "
            "Copy or download it again."
        )
    return config


class Weights:
    """The tensors of a checkpoint as float32, each handed out once, so that what is left over can be told."""

    def __init__(self, source: Path, config: dict[str, Any]) -> None:
        parts = weight_files(source)
        if not parts and any(source.glob("pytorch_model*.bin*")):
            raise ModelError(
                f"{source} holds pickled weights (pytorch_model.bin) only. Opening a pickle can run any code in it, so "
                "hvisk reads safetensors alone. If you trust it, convert it where transformers is installed: "
                f'python -c "from transformers import {_ARCHITECTURE} as W; d = {str(source)!r}; '
                'W.from_pretrained(d).save_pretrained(d)"'
            )
        if not parts:
            raise ModelError(f"{source} holds no weights. Needed: model.safetensors, or its parts with their index.")
        self.source, self.config = source, config
        self.left = dict(pair for part in parts for pair in _tensors(part))

    def take(self, name: str) -> NDArray[np.float32]:
        if name not in self.left:
            raise ModelError(
                f"The weights in {self.source} lack the tensor '{name}' that config.json promises: "
                "they are cut short, or of another architecture."
            )
        found, wanted = self.left[name].shape, self._shape(name)
        if found != wanted:
            raise ModelError(
                f"The tensor '{name}' in {self.source} has the shape {found}, and config.json makes it {wanted}: they "
                "belong to two models. Copy or download the whole model again."
            )
        return self.left.pop(name)

    def _shape(self, name: str) -> tuple[int, ...]:
        # CTranslate2 does not look: it reads beyond the end of a tensor that is too small, and answers with noise.
        side, source = ("encoder", "source") if name.startswith("model.encoder.") else ("decoder", "target")
        width, inner = self.config["d_model"], self.config[f"{side}_ffn_dim"]
        shapes = {
            "conv1.weight": (width, self.config["num_mel_bins"], _CONVOLUTION),
            "conv2.weight": (width, width, _CONVOLUTION),
            "embed_positions.weight": (self.config[f"max_{source}_positions"], width),
            "embed_tokens.weight": (self.config["vocab_size"], width),
            "proj_out.weight": (self.config["vocab_size"], width),
            "fc1.weight": (inner, width),
            "fc1.bias": (inner,),
            "fc2.weight": (width, inner),
        }
        kind = ".".join(name.split(".")[-2:])
        return shapes.get(kind, (width, width) if kind.endswith("_proj.weight") else (width,))


def weight_files(source: Path) -> list[Path]:
    """Return the safetensors files of a Hugging Face model directory, sorted by name; empty where there are none.

    Raises ModelError if the index cannot be read or names a part that is missing.
    """
    if (source / "model.safetensors").exists():
        return [source / "model.safetensors"]
    index = source / "model.safetensors.index.json"
    if not index.exists():
        return []
    parts = [source / name for name in sorted(set(settings(index).get("weight_map", {}).values()))]
    for part in parts:
        if not part.exists():
            raise ModelError(f"{index} names {part.name}, which is missing. Copy or download the whole model again.")
    return parts


def fingerprint(source: Path) -> str:
    """Return the SHA-256, in hexadecimal, of the weights: of the one file, or of its parts' digests in order."""
    digests = [sha256(part) for part in weight_files(source)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def vocabulary(source: Path, tokens: Tokens, rows: int) -> list[str]:
    by_id = {index: token for token, index in tokens.tokenizer.get_vocab(with_added_tokens=True).items()}
    if sorted(by_id) != list(range(rows)):
        gap = next(i for i in range(max(*by_id, rows) + 1) if (i in by_id) != (i < rows))
        raise ModelError(
            f"The tokenizer in {source} does not fit the weights: {len(by_id)} tokens for {rows} rows of the embedding; "
            f"id {gap} is the first that only one of them has. Both must come from the same training."
        )
    return [by_id[index] for index in range(rows)]


def extractor(config: dict[str, Any]) -> dict[str, Any]:
    frames = config["max_source_positions"] * ENCODER_STRIDE
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": config["num_mel_bins"],
        "sampling_rate": SAMPLE_RATE,
        "n_fft": N_FFT,
        "hop_length": HOP,
        "chunk_length": frames // FRAMES_PER_SECOND,
        "n_samples": frames * HOP,
        "nb_max_frames": frames,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
    }


def stated(source: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """What generation_config.json says, and what config.json said in its place until 2023; nulls say nothing."""
    said = [{key: config.get(key) for key in FORMER}, settings(source / "generation_config.json")]
    return {key: value for part in said for key, value in part.items() if value is not None}


def described(source: Path, config: Mapping[str, Any], tokens: Tokens) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's hvisk.json, empty where there is none, and the generation settings of an export of it."""
    about = settings(source / "hvisk.json")
    length, language = config["max_target_positions"], about.get("language")
    return about, generation(tokens, stated(source, config), max_length=length, language=language)


def generation(
    tokens: Tokens, stated: Mapping[str, Any], *, max_length: int, language: str | None = None
) -> dict[str, Any]:
    """Return a generation_config.json with all that transformers, Transformers.js and others' converters read from it.

    stated: what is kept of the model's own, but for DROPPED and for what the vocabulary decides. max_length: the decoder's
    positions. language: for those who name none; without one, transformers listens for it.
    """
    kept = {key: value for key, value in stated.items() if key not in DROPPED}
    return {
        "max_length": max_length,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "max_initial_timestamp_index": 50,  # 50 x 0.02 s: the first timestamp is within a second
        "return_timestamps": False,
        "task": "transcribe",
        **({"language": language} if language else {}),
        **kept,
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": tokens.language(code) for code in tokens.languages()},
        "task_to_id": {"transcribe": tokens.transcribe, "translate": tokens.translate},
        "no_timestamps_token_id": tokens.no_timestamps,
        "prev_sot_token_id": tokens.start_of_previous,
        "decoder_start_token_id": tokens.sot,
        "bos_token_id": tokens.eot,
        "eos_token_id": tokens.eot,
        "pad_token_id": tokens.eot,
    }


def settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty where there is no such file."""
    if not path.exists():
        return {}
    try:
        value = read_json(path)
    except ValueError as error:  # bytes that are no UTF-8 as well
        raise ModelError(f"{path} cannot be read as JSON ({error}). Copy or download it again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object. Copy or download it again.")
    return value


def _tensors(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    try:
        entries = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ModelError(f"{path} cannot be read as safetensors ({error}). Copy or download it again.") from error
    for name, entry in entries:
        if entry["dtype"] not in _NUMPY_TYPES:
            raise ModelError(
                f"{path} holds '{name}' as {entry['dtype']}. Accepted: {', '.join(_NUMPY_TYPES)}; "
                "a quantised checkpoint has to be saved again in full precision."
            )
        array = np.frombuffer(entry["data"], dtype=_NUMPY_TYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":  # numpy has no such type: it is the upper half of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        yield name, array.astype(np.float32)  # always a copy: quantising scales it in place
