"""A Hugging Face Whisper directory -> a ggml file for whisper.cpp, and the proof that both agree. No torch is needed.

whisper.cpp takes the ids of Whisper's special tokens from the size of the vocabulary alone, so that only OpenAI's own
multilingual layout can run in it. A trimmed model gets its whole vocabulary again first.

The format (whisper.cpp, models/convert-h5-to-ggml.py and whisper_model_load; numbers are little-endian, lengths int32):
magic, eleven sizes, mel filters, the texts of the tokens, and then each tensor as (dimensions, length of its name, type,
shape from the last axis to the first, name, values). Matrices are in the chosen format, convolutions always in float16,
and vectors and position tables in float32, as its own quantising tool has it.
"""

import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from hvisk import features
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import ModelError, require
from hvisk.export import origin
from hvisk.export.parity import TOLERANCE, Decode, HeldOut, Parity, compare, judge
from hvisk.export.trim import untrim
from hvisk.files import atomic_directory, atomic_path, read_json, write_json
from hvisk.tokens import LANGUAGES, Tokens

Quantisation = Literal["f16", "q8_0", "q5_1"]

BLOCK = 32  # neighbouring weights of a row that share one scale, in q8_0 and q5_1 alike

_MAGIC = 0x67676D6C  # "ggml"
_F32, _F16 = 0, 1  # ggml_type
_TYPES = {"f16": _F16, "q8_0": 8, "q5_1": 7}  # ggml_type
# ggml_ftype; the thousands are the version of the formats of the blocks, which the quantising tool adds
_FILE_TYPES = {"f16": 1, "q8_0": 2007, "q5_1": 2009}
_Q8_0 = np.dtype([("scale", "<f2"), ("quants", "i1", BLOCK)])
_Q5_1 = np.dtype([("scale", "<f2"), ("least", "<f2"), ("high", "<u4"), ("low", "u1", BLOCK // 2)])
_LARGEST = float(np.finfo(np.float16).max)
_ROWS = 4096  # rows of a matrix that are converted at once: an embedding needs no second copy of itself

_TEXTS = 50_257  # tokens before <|endoftext|> in OpenAI's multilingual vocabularies, the empty one included
_OTHERS = 51_766  # tokens that are no languages, timestamps included: 51,865 with 99 languages, 51,866 with 100
_TASKS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>")
_SHORTEST = 1.1  # seconds; whisper.cpp ignores what is shorter than 1 s

_EMBEDDING = "model.decoder.embed_tokens.weight"
_IN_A_LAYER = {
    "self_attn_layer_norm": "attn_ln",
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "encoder_attn_layer_norm": "cross_attn_ln",
    "encoder_attn.q_proj": "cross_attn.query",
    "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out",
    "final_layer_norm": "mlp_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
}


def convert(source: Path, out: Path, *, quantisation: Quantisation = "q8_0", original: Path | None = None) -> None:
    """Write the Whisper in `source` to the ggml file `out`, which replaces an older one only when it is complete.

    source: a Hugging Face Whisper directory with safetensors, in any precision. original: the model that `source` was
    trimmed from; needed if, and only if, its hvisk.json says that it was. quantisation: f16 is 2 bytes a weight, q8_0
    1.06, q5_1 0.75.

    Raises ModelError for what is no Whisper directory, a vocabulary or shape that whisper.cpp cannot run, and weights
    that float16 cannot hold.
    """
    trimmed = "trimmed_from" in _about(source)
    if trimmed and original is None:
        raise ModelError(
            f"{source} has a trimmed vocabulary, and whisper.cpp can only run OpenAI's whole one. Give the model that it "
            "was trimmed from as well: --original MODEL"
        )
    if original is None:
        _write(source, out, quantisation)
        return
    if not trimmed:
        raise ModelError(f"{source} was not trimmed, so that it needs nothing of {original}. Leave --original out.")
    with tempfile.TemporaryDirectory(prefix="hvisk-") as folder:
        untrim(source, original, Path(folder) / "whole")
        _write(Path(folder) / "whole", out, quantisation)


def export(
    checkpoint: Path,
    out: Path,
    *,
    reference: Decode,
    on: HeldOut,
    quantisation: Quantisation = "q8_0",
    original: Path | None = None,
    load: Callable[[Path], Decode] | None = None,
    tolerance: float = TOLERANCE,
    force: bool = False,
) -> Parity:
    """Convert `checkpoint` into the directory `out` if whisper.cpp then gives its tokens for enough of the clips.

    reference: the checkpoint's own decoder: float32 mono 16 kHz clips, each padded to 30 s as whisper.cpp does -> text
    token ids of each, in its own vocabulary. original: see convert(). load: makes a decoder of the ggml file (default:
    decoder(), which needs pywhispercpp). tolerance: the share of clips that must be equal. force: write
    `out` anyhow. out: ggml-model-QUANTISATION.bin, hvisk.json and parity.json, which is the comparison, in the whole
    vocabulary's ids. On ModelError nothing is written, and an older `out` stays.
    """
    about = _about(checkpoint)
    with atomic_directory(out) as directory:
        path = directory / f"ggml-model-{quantisation}.bin"
        convert(checkpoint, path, quantisation=quantisation, original=original)
        if load is None:
            decode = decoder(path, language=str(about.get("language", "da")), speech_only=_speech_only(checkpoint))
        else:
            decode = load(path)
        text = Tokens.load(original or checkpoint).decode
        parity = compare(_in_whole_vocabulary(reference, checkpoint, original), decode, on, text)
        write_json(directory / "hvisk.json", {**about, "quantisation": quantisation})
        finer = {"q5_1": "--quantise q8_0 or f16 is closer to it", "q8_0": "--quantise f16 is closer to it"}
        judge(
            parity, directory, out, {"quantisation": quantisation}, tolerance=tolerance, force=force,
            closer=finer.get(quantisation, ""),
        )  # fmt: skip
    return parity


def decoder(path: Path, *, language: str = "da", speech_only: bool = False, threads: int = 0) -> Decode:
    """Return whisper.cpp's own greedy decoding of a ggml file: float32 mono 16 kHz clips -> text token ids of each.

    Each clip of 30 s at most is padded to 30 s, no timestamps are asked for, and nothing is tried twice at a higher
    temperature. A text ends after half of the decoder's positions. speech_only: forbid notes and brackets, as OpenAI's
    `suppress_tokens` do. threads: 0 is whisper.cpp's own choice. Raises MissingExtra, and ModelError for what it cannot
    open.
    """
    require("pywhispercpp", "ggml", "run a model in whisper.cpp")
    from pywhispercpp import model as module

    whisper_cpp: Any = module  # its Python class hands out texts alone; the bindings beneath it know the tokens
    if path.read_bytes()[:4] != struct.pack("<i", _MAGIC):  # whisper.cpp crashes on some other files
        raise ModelError(f"{path} is no ggml file. Make one with: hvisk export MODEL --to ggml")
    options = {"n_threads": threads} if threads else {}
    try:
        model = whisper_cpp.Model(
            str(path),
            redirect_whispercpp_logs_to=None,
            language=language,
            temperature_inc=0.0,
            no_speech_thold=1.0,  # never silence a text: the checkpoint does not either
            suppress_blank=False,  # an empty text may be right
            suppress_nst=speech_only,
            no_timestamps=True,
            single_segment=True,
            print_progress=False,
            print_realtime=False,
            **options,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"whisper.cpp cannot open {path}: {error}. Export the model again.") from error
    binding, context = whisper_cpp.pw, model._ctx
    end = binding.whisper_token_eot(context)

    def decode(clips: Sequence[NDArray[np.float32]]) -> list[list[int]]:
        found = []
        for clip in clips:
            silence = max(0, round(_SHORTEST * SAMPLE_RATE) - len(clip))
            model.transcribe(np.pad(clip, (0, silence)))
            ids = [
                binding.whisper_full_get_token_id(context, segment, place)
                for segment in range(binding.whisper_full_n_segments(context))
                for place in range(binding.whisper_full_n_tokens(context, segment))
            ]
            found.append([index for index in ids if index < end])
        return found

    return decode


def quantised(values: NDArray[np.float32], quantisation: Quantisation) -> bytes:
    """Return a matrix in ggml's format: float32 (rows, columns), columns a multiple of BLOCK unless f16.

    q8_0: 32 weights become a float16 scale, the largest magnitude / 127, and 32 int8. q5_1: a float16 scale, (largest -
    least) / 31, the least as float16, 32 bits with the fifth bit of each, and 16 bytes with the lower four bits of weights
    i and i + 16 (ggml/src/ggml-quants.c, quantize_row_q8_0_ref and quantize_row_q5_1_ref; bit for bit the same here).
    """
    if quantisation == "f16":
        return values.astype("<f2").tobytes()
    blocks = values.reshape(-1, BLOCK)
    if quantisation == "q8_0":
        packed = np.empty(len(blocks), dtype=_Q8_0)
        scale = np.abs(blocks).max(axis=1) / np.float32(127)
        packed["scale"] = scale
        scaled = blocks * _inverse(scale)[:, None]
        # Halves away from zero, as C's roundf; the largest number below a half also gets those just under it right.
        packed["quants"] = np.trunc(scaled + np.copysign(np.nextafter(np.float32(0.5), np.float32(0)), scaled))
        return packed.tobytes()
    packed = np.empty(len(blocks), dtype=_Q5_1)
    least = blocks.min(axis=1)
    scale = (blocks.max(axis=1) - least) / np.float32(31)
    packed["scale"], packed["least"] = scale, least
    quants = ((blocks - least[:, None]) * _inverse(scale)[:, None] + np.float32(0.5)).astype(np.uint8)
    packed["high"] = ((quants >> 4).astype(np.uint32) << np.arange(BLOCK, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    packed["low"] = (quants[:, : BLOCK // 2] & 15) | ((quants[:, BLOCK // 2 :] & 15) << 4)
    return packed.tobytes()


def _inverse(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


# --- the file --------------------------------------------------------------------------------------------------------


def _write(source: Path, out: Path, quantisation: Quantisation) -> None:
    config = origin.whisper_config(source)
    tokens = Tokens.load(source)
    _check_vocabulary(source, tokens, config["vocab_size"])
    _check_shape(source, config, quantisation)
    weights = origin.Weights(source, config)
    filters = features.mel_filters(config["num_mel_bins"])
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<12i", _MAGIC, *_sizes(config), _FILE_TYPES[quantisation]))
        file.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        texts = _texts(source, tokens)
        file.write(struct.pack("<i", len(texts)) + b"".join(struct.pack("<i", len(text)) + text for text in texts))
        # A projection of its own is not in the format; one that merely repeats the embedding does no harm.
        projection = weights.take("proj_out.weight") if "proj_out.weight" in weights.left else None
        for theirs, name in _names(config):
            values = weights.take(theirs)
            if not np.abs(values).max() <= _LARGEST:  # NaN is not either
                raise ModelError(
                    f"The tensor '{theirs}' in {source} holds numbers that float16 cannot: train it again."
                )
            _tensor(file, name, values, quantisation)
            if theirs == _EMBEDDING and projection is not None and not np.array_equal(projection, values):
                raise ModelError(
                    f"{source} has an output projection of its own (proj_out), and whisper.cpp reuses the embedding. "
                    "Train with tied embeddings, or export to ct2."
                )
        if weights.left:
            names = sorted(weights.left)
            raise ModelError(
                f"The weights in {source} hold {len(names)} tensors that its config.json does not account for "
                f"('{names[0]}', ...): another number of layers, or an unmerged adapter."
            )


def _sizes(config: dict[str, Any]) -> list[int]:
    width = config["d_model"]
    audio = [config["max_source_positions"], width, config["encoder_attention_heads"], config["encoder_layers"]]
    text = [config["max_target_positions"], width, config["decoder_attention_heads"], config["decoder_layers"]]
    return [config["vocab_size"], *audio, *text, config["num_mel_bins"]]


def _names(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every tensor as Hugging Face and as whisper.cpp call it, in the order of the file."""
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        yield f"model.{side}.embed_positions.weight", f"{side}.positional_embedding"
        if side == "encoder":
            for part in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"):
                yield f"model.encoder.{part}", f"encoder.{part}"
        else:
            yield _EMBEDDING, "decoder.token_embedding.weight"
        for layer in range(config[f"{side}_layers"]):
            for theirs, name in _IN_A_LAYER.items():
                if side == "encoder" and theirs.startswith("encoder_attn"):
                    continue
                for kind in ("weight", "bias"):
                    if not (kind == "bias" and theirs.endswith("k_proj")):  # Whisper's keys have no bias
                        yield f"model.{side}.layers.{layer}.{theirs}.{kind}", f"{side}.blocks.{layer}.{name}.{kind}"
        for kind in ("weight", "bias"):
            yield f"model.{side}.layer_norm.{kind}", f"{side}.{norm}.{kind}"


def _tensor(file: BinaryIO, name: str, values: NDArray[np.float32], quantisation: Quantisation) -> None:
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        values = values[:, None]  # added to (time, channels), which whisper.cpp does not reshape
    matrix = values.ndim == 2 and not name.endswith((".bias", "positional_embedding"))
    kind = _TYPES[quantisation] if matrix else _F16 if values.ndim == 3 else _F32
    label = name.encode()
    file.write(struct.pack(f"<3i{values.ndim}i", values.ndim, len(label), kind, *values.shape[::-1]) + label)
    if not matrix:
        file.write(values.astype("<f2" if kind == _F16 else "<f4").tobytes())
        return
    for start in range(0, len(values), _ROWS):
        file.write(quantised(values[start : start + _ROWS], quantisation))


def _texts(source: Path, tokens: Tokens) -> list[bytes]:
    """The bytes that each text token spells, by id. whisper.cpp names the special tokens itself."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # these stand for themselves (GPT-2)
    others = [byte for byte in range(256) if byte not in printable]
    bytes_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    texts = []
    for index in range(tokens.eot):
        token = tokens.tokenizer.id_to_token(index)
        if token is None or not bytes_of.keys() >= set(token):
            raise ModelError(
                f"Token {index} in {source} ({token!r}) is no byte-level text: this is no Whisper vocabulary."
            )
        texts.append(bytes(bytes_of[letter] for letter in token))
    return texts


# --- what whisper.cpp can run ----------------------------------------------------------------------------------------


def _check_vocabulary(source: Path, tokens: Tokens, rows: int) -> None:
    languages = rows - _OTHERS
    order = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in (*LANGUAGES, "yue")[:languages])]
    found = [tokens.tokenizer.token_to_id(token) for token in (*order, *_TASKS)]
    found += [tokens.no_speech, tokens.no_timestamps, tokens.timestamp_begin]
    expected = list(range(_TEXTS, _TEXTS + len(found)))
    if languages in (len(LANGUAGES), len(LANGUAGES) + 1) and tokens.size == rows and found == expected:
        return
    raise ModelError(
        f"whisper.cpp cannot run {source}: it knows the special tokens by their ids in OpenAI's multilingual vocabularies "
        f"of 51,865 or 51,866 tokens, where <|endoftext|> is {_TEXTS}. Here there are {tokens.size:,} in {rows:,} rows, "
        f"with <|endoftext|> at {tokens.eot}. Export it to ct2 instead, or train from a base with OpenAI's vocabulary, "
        "trimmed or not."
    )


def _check_shape(source: Path, config: dict[str, Any], quantisation: Quantisation) -> None:
    width = config["d_model"]
    for side in ("encoder", "decoder"):
        if config[f"{side}_ffn_dim"] != 4 * width:
            raise ModelError(
                f"whisper.cpp cannot run {source}: its {side}'s inner width must be 4 x {width}, and is "
                f"{config[f'{side}_ffn_dim']}. Export it to ct2 instead."
            )
    if quantisation != "f16" and width % BLOCK:
        raise ModelError(
            f"{quantisation} has blocks of {BLOCK} weights, which rows of {width} in {source} are no multiple of. "
            "Export it with --quantise f16."
        )


# --- the proof -------------------------------------------------------------------------------------------------------


def _about(directory: Path) -> dict[str, Any]:
    path = directory / "hvisk.json"
    return dict(read_json(path)) if path.exists() else {}


def _speech_only(checkpoint: Path) -> bool:
    path = checkpoint / "generation_config.json"
    return bool(read_json(path).get("suppress_tokens")) if path.exists() else False


def _in_whole_vocabulary(reference: Decode, checkpoint: Path, original: Path | None) -> Decode:
    """The checkpoint's decoder, with the ids that its tokens have in the vocabulary that it was trimmed from."""
    if original is None:
        return reference
    few, many = (Tokens.load(directory).tokenizer.get_vocab() for directory in (checkpoint, original))
    ids = {index: many[token] for token, index in few.items()}
    return lambda clips: [[ids[index] for index in found] for found in reference(clips)]
