"""A Hugging Face Whisper directory -> a CTranslate2 directory that describes itself, and the proof that both agree.

Nothing here needs torch: the weights are read as numpy arrays and laid into CTranslate2's own specification.
(CTranslate2 imports torch by itself where it is installed, to accept tensors too; it is not used.)
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.errors import ModelError
from hvisk.export.parity import Decode, Parity, compare
from hvisk.features import ENCODER_STRIDE, FRAMES_PER_SECOND, HOP, N_FFT
from hvisk.files import atomic_directory, read_json, sha256, write_json
from hvisk.tokens import LANGUAGES, Tokens

Quantisation = Literal["int8", "float16", "float32"]
VERSION = 1  # of what convert() writes: raise it when the same source must give another result, and caches follow

_ARCHITECTURE = "WhisperForConditionalGeneration"
_ENCODER_SIZES = ("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "max_source_positions")
_DECODER_SIZES = ("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "max_target_positions")
_SIZES = ("d_model", "vocab_size", "num_mel_bins", *_ENCODER_SIZES, *_DECODER_SIZES)
_CONVOLUTION = 3  # frames that each of the encoder's two convolutions looks at
_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}


def convert(source: Path, out: Path, *, quantisation: Quantisation = "int8") -> None:
    """Write the Whisper in `source` to the new directory `out`, which replaces an older one only when it is complete.

    source: config.json, model.safetensors or its numbered parts (float32, float16 or bfloat16), tokenizer files; read
    if there: generation_config.json, preprocessor_config.json, hvisk.json. out: model.bin, config.json,
    vocabulary.json, the tokenizer files, preprocessor_config.json, generation_config.json and hvisk.json, which is the
    source's with `quantisation` and `source_fingerprint` added, and `own_length` false where the source does not say.

    Raises ModelError for what is no Whisper directory, pickled weights, missing, unexpected or misshapen tensors, and
    tokenizer or generation settings that do not fit the weights.
    """
    from ctranslate2.specs import WhisperSpec

    config = _whisper_config(source)
    tokens = Tokens.load(source)
    generation = _json(source / "generation_config.json")
    spec = WhisperSpec(
        config["encoder_layers"],
        config["encoder_attention_heads"],
        config["decoder_layers"],
        config["decoder_attention_heads"],
    )
    _fill(spec, _Weights(source, config))
    vocabulary = _vocabulary(source, tokens, rows=len(spec.decoder.embeddings.weight))
    if generation.get("is_multilingual") and "" not in vocabulary:
        raise ModelError(
            f"The vocabulary of {source} lacks the empty token before <|endoftext|>, by which CTranslate2 knows a "
            "multilingual Whisper: it would be run as an English-only one. Trim the vocabulary again and keep it."
        )
    spec.register_vocabulary(vocabulary)
    _set_decoding(spec.config, source, config, generation, tokens)
    spec.validate()
    spec.optimize(quantization=quantisation)
    with atomic_directory(out) as directory:
        spec.save(str(directory))
        tokens.save(directory)
        if generation:
            write_json(directory / "generation_config.json", generation)
        extractor = "preprocessor_config.json"
        write_json(directory / extractor, _json(source / extractor) or _extractor(config))
        added = {"quantisation": quantisation, "source_fingerprint": fingerprint(source)}
        write_json(directory / "hvisk.json", {"own_length": False, **_json(source / "hvisk.json"), **added})


def export(
    checkpoint: Path,
    out: Path,
    *,
    reference: Decode,
    clips: Sequence[NDArray[np.float32]],
    ids: Sequence[str],
    quantisation: Quantisation = "int8",
    load: Callable[[Path], Decode] | None = None,
    tolerance: float = 0.99,
    force: bool = False,
) -> Parity:
    """Convert `checkpoint` to `out` if the result gives the checkpoint's tokens for at least `tolerance` of the clips.

    reference: the checkpoint's own decoder, float32 mono 16 kHz clips -> text token ids of each. load: makes such a
    decoder of the converted directory (default: hvisk's recogniser). ids: the clips' names. force: write `out` anyhow.
    The comparison is stored as `out/parity.json`. On ModelError nothing is written, and an older `out` stays.
    """
    with atomic_directory(out) as directory:
        convert(checkpoint, directory, quantisation=quantisation)
        parity = compare(reference, (load or _recogniser)(directory), clips, ids)
        record = {
            "quantisation": quantisation,
            "tolerance": tolerance,
            "forced": force and parity.share_equal < tolerance,
        }
        write_json(directory / "parity.json", {**record, **parity.to_dict()})
        if parity.share_equal < tolerance and not force:
            way_out = "--force writes it anyhow"
            if quantisation == "int8":
                way_out = f"--quantise float16 is twice the size and computes in full precision, {way_out}"
            raise ModelError(f"{out} was not written: {parity} ({tolerance:.1%} is wanted). {way_out}.")
    return parity


def weight_files(source: Path) -> list[Path]:
    """Return the safetensors files of a Hugging Face model directory, sorted by name; empty where there are none.

    Raises ModelError if the index cannot be read or names a part that is missing.
    """
    if (source / "model.safetensors").exists():
        return [source / "model.safetensors"]
    index = source / "model.safetensors.index.json"
    if not index.exists():
        return []
    parts = [source / name for name in sorted(set(_json(index).get("weight_map", {}).values()))]
    for part in parts:
        if not part.exists():
            raise ModelError(f"{index} names {part.name}, which is missing. Copy or download the whole model again.")
    return parts


def fingerprint(source: Path) -> str:
    """Return the SHA-256, in hexadecimal, of the weights: of the one file, or of its parts' digests in order."""
    digests = [sha256(part) for part in weight_files(source)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


class _Weights:
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


def _whisper_config(source: Path) -> dict[str, Any]:
    if (source / "adapter_config.json").exists() and not (source / "config.json").exists():
        raise ModelError(
            f"{source} holds an adapter (LoRA) only. Merge it: model.merge_and_unload().save_pretrained(...)"
        )
    if not (source / "config.json").exists():
        raise ModelError(
            f"{source} is no Whisper model: it holds no config.json. "
            "Accepted: a directory that a Whisper's save_pretrained() has written, such as a checkpoint of hvisk train."
        )
    config = _json(source / "config.json")
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


def _json(path: Path) -> dict[str, Any]:
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


def _fill(spec: Any, weights: _Weights) -> None:
    for name, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        prefix = f"model.{name}"
        side.position_encodings.encodings = weights.take(f"{prefix}.embed_positions.weight")
        _norm(side.layer_norm, weights, f"{prefix}.layer_norm")
        for number, layer in enumerate(side.layer):
            block = f"{prefix}.layers.{number}"
            self_attention = [_linear(weights, f"{block}.self_attn.{part}_proj") for part in "qkv"]
            _fuse(layer.self_attention.linear[0], self_attention)
            _fuse(layer.self_attention.linear[1], [_linear(weights, f"{block}.self_attn.out_proj")])
            _norm(layer.self_attention.layer_norm, weights, f"{block}.self_attn_layer_norm")
            if name == "decoder":
                query, key, value = (_linear(weights, f"{block}.encoder_attn.{part}_proj") for part in "qkv")
                _fuse(layer.attention.linear[0], [query])
                _fuse(layer.attention.linear[1], [key, value])
                _fuse(layer.attention.linear[2], [_linear(weights, f"{block}.encoder_attn.out_proj")])
                _norm(layer.attention.layer_norm, weights, f"{block}.encoder_attn_layer_norm")
            _fuse(layer.ffn.linear_0, [_linear(weights, f"{block}.fc1")])
            _fuse(layer.ffn.linear_1, [_linear(weights, f"{block}.fc2")])
            _norm(layer.ffn.layer_norm, weights, f"{block}.final_layer_norm")
    for convolution in ("conv1", "conv2"):
        _fuse(getattr(spec.encoder, convolution), [_linear(weights, f"model.encoder.{convolution}")])
    embedding = weights.take("model.decoder.embed_tokens.weight")
    spec.decoder.embeddings.weight = embedding
    # Hugging Face leaves a tied projection out of the file; where it is there, it counts, whatever config.json says.
    untied = "proj_out.weight" in weights.left
    spec.decoder.projection.weight = weights.take("proj_out.weight") if untied else embedding
    if weights.left:
        names = sorted(weights.left)
        raise ModelError(
            f"The weights in {weights.source} hold {len(names)} tensors that its config.json does not account for "
            f"('{names[0]}', ...): another number of layers, an unmerged adapter, or another architecture."
        )


def _linear(weights: _Weights, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weight = weights.take(f"{name}.weight")
    if name.endswith(".k_proj"):  # Whisper's keys have no bias; the fused product needs one for every row
        return weight, np.zeros(len(weight), dtype=np.float32)
    return weight, weights.take(f"{name}.bias")


def _fuse(spec: Any, layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
    spec.weight = np.concatenate([weight for weight, _ in layers])
    spec.bias = np.concatenate([bias for _, bias in layers])


def _norm(spec: Any, weights: _Weights, name: str) -> None:
    spec.gamma, spec.beta = weights.take(f"{name}.weight"), weights.take(f"{name}.bias")


def _vocabulary(source: Path, tokens: Tokens, rows: int) -> list[str]:
    by_id = {index: token for token, index in tokens.tokenizer.get_vocab(with_added_tokens=True).items()}
    if sorted(by_id) != list(range(rows)):
        gap = next(i for i in range(max(*by_id, rows) + 1) if (i in by_id) != (i < rows))
        raise ModelError(
            f"The tokenizer in {source} does not fit the weights: {len(by_id)} tokens for {rows} rows of the embedding; "
            f"id {gap} is the first that only one of them has. Both must come from the same training."
        )
    return [by_id[index] for index in range(rows)]


def _set_decoding(
    decoding: Any, source: Path, config: dict[str, Any], generation: dict[str, Any], tokens: Tokens
) -> None:
    settings = {**config, **generation}  # before 2023 config.json held what generation_config.json holds today
    decoding.suppress_ids = settings.get("suppress_tokens") or []
    decoding.suppress_ids_begin = settings.get("begin_suppress_tokens") or []
    languages = settings.get("lang_to_id") or {
        code: index
        for code in (*LANGUAGES, "yue")
        if (index := tokens.tokenizer.token_to_id(f"<|{code}|>")) is not None
    }
    decoding.lang_ids = sorted(languages.values())
    layers, heads = config["decoder_layers"], config["decoder_attention_heads"]
    # Without measured alignment heads: all heads of the later half of the layers, as CTranslate2's own converter does.
    decoding.alignment_heads = settings.get("alignment_heads") or [
        [layer, head] for layer in range(layers // 2, layers) for head in range(heads)
    ]
    if not all(0 <= layer < layers and 0 <= head < heads for layer, head in decoding.alignment_heads):
        raise ModelError(
            f"generation_config.json in {source} names alignment heads that the decoder lacks: it has {layers} layers of "
            f"{heads} heads. Take 'alignment_heads' out of that file, or correct it."
        )
    for name in ("suppress_ids", "suppress_ids_begin", "lang_ids"):
        beyond = [index for index in getattr(decoding, name) if not 0 <= index < tokens.size]
        if beyond:
            raise ModelError(
                f"generation_config.json in {source} names token {beyond[0]} ({name}), but the vocabulary has 0 to "
                f"{tokens.size - 1}: it belongs to another vocabulary. Trim the model again, or correct that file."
            )


def _extractor(config: dict[str, Any]) -> dict[str, Any]:
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


def _recogniser(directory: Path) -> Decode:
    from hvisk.recogniser.engine import Recogniser

    recogniser = Recogniser.load(directory)
    language = str(recogniser.about.get("language", "da"))
    return lambda clips: [list(result.tokens) for result in recogniser.recognise(clips, language=language)]
