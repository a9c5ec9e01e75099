"""A Hugging Face Whisper directory -> a CTranslate2 directory that describes itself, and the proof that both agree.

Nothing here needs torch: the weights are read as numpy arrays and laid into CTranslate2's own specification.
(CTranslate2 imports torch by itself where it is installed, to accept tensors too; it is not used.)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvisk.errors import ModelError
from hvisk.export import origin
from hvisk.export.parity import TOLERANCE, Decode, HeldOut, Parity, compare, judge
from hvisk.files import atomic_directory, write_json
from hvisk.tokens import LANGUAGES, Tokens

Quantisation = Literal["int8", "float16", "float32"]
VERSION = 1  # of what convert() writes: raise it when the same source must give another result, and caches follow


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

    config = origin.whisper_config(source)
    tokens = Tokens.load(source)
    generation = origin.settings(source / "generation_config.json")
    spec = WhisperSpec(
        config["encoder_layers"],
        config["encoder_attention_heads"],
        config["decoder_layers"],
        config["decoder_attention_heads"],
    )
    _fill(spec, origin.Weights(source, config))
    vocabulary = origin.vocabulary(source, tokens, rows=len(spec.decoder.embeddings.weight))
    if generation.get("is_multilingual") and "" not in vocabulary:
        raise ModelError(
            f"The vocabulary of {source} lacks the empty token before <|endoftext|>, by which CTranslate2 knows a "
            "multilingual Whisper: it would be run as an English-only one. Trim the vocabulary again and keep it."
        )
    spec.register_vocabulary(vocabulary)
    set_decoding(spec.config, source, config, generation, tokens)
    spec.validate()
    spec.optimize(quantization=quantisation)
    with atomic_directory(out) as directory:
        spec.save(str(directory))
        tokens.save(directory)
        if generation:
            write_json(directory / "generation_config.json", generation)
        extractor = "preprocessor_config.json"
        write_json(directory / extractor, origin.settings(source / extractor) or origin.extractor(config))
        added = {"quantisation": quantisation, "source_fingerprint": origin.fingerprint(source)}
        write_json(directory / "hvisk.json", {"own_length": False, **origin.settings(source / "hvisk.json"), **added})


def export(
    checkpoint: Path,
    out: Path,
    *,
    reference: Decode,
    on: HeldOut,
    quantisation: Quantisation = "int8",
    load: Callable[[Path], Decode] | None = None,
    tolerance: float = TOLERANCE,
    force: bool = False,
) -> Parity:
    """Convert `checkpoint` to `out` if the result gives the checkpoint's tokens for at least `tolerance` of the clips.

    reference: the checkpoint's own decoder, float32 mono 16 kHz clips -> text token ids of each. load: makes such a
    decoder of the converted directory (default: hvisk's recogniser). force: write `out` anyhow. The comparison is
    stored as `out/parity.json`. On ModelError nothing is written, and an older `out` stays.
    """
    with atomic_directory(out) as directory:
        convert(checkpoint, directory, quantisation=quantisation)
        parity = compare(reference, (load or _recogniser)(directory), on, Tokens.load(checkpoint).decode)
        closer = "--quantise float16 is twice the size and computes in full precision" if quantisation == "int8" else ""
        judge(parity, directory, out, {"quantisation": quantisation}, tolerance=tolerance, force=force, closer=closer)
    return parity


def _fill(spec: Any, weights: origin.Weights) -> None:
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


def _linear(weights: origin.Weights, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    weight = weights.take(f"{name}.weight")
    if name.endswith(".k_proj"):  # Whisper's keys have no bias; the fused product needs one for every row
        return weight, np.zeros(len(weight), dtype=np.float32)
    return weight, weights.take(f"{name}.bias")


def _fuse(spec: Any, layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> None:
    spec.weight = np.concatenate([weight for weight, _ in layers])
    spec.bias = np.concatenate([bias for _, bias in layers])


def _norm(spec: Any, weights: origin.Weights, name: str) -> None:
    spec.gamma, spec.beta = weights.take(f"{name}.weight"), weights.take(f"{name}.bias")


def set_decoding(
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


def _recogniser(directory: Path) -> Decode:
    from hvisk.recogniser.engine import Recogniser

    recogniser = Recogniser.load(directory)
    language = str(recogniser.about.get("language", "da"))
    return lambda clips: [list(result.tokens) for result in recogniser.recognise(clips, language=language)]
