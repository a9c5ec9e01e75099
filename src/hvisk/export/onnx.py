"""A Hugging Face Whisper directory -> one that Transformers.js and onnxruntime load, and the proof that both agree.

    convert(source, out)      config.json, tokenizer files, onnx/encoder_model*.onnx, onnx/decoder_model_merged*.onnx
    load(out)                 the same as a decoder of clips, greedy
    export(source, out, ...)  converted, and kept if it says what the checkpoint says

The graphs are written straight from the weights (`onnx_graph.py`): no torch, no tracing, and every byte has its reason. The
encoder takes any number of frames up to 30 s; Transformers.js itself always pads to what preprocessor_config.json says.
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk.errors import ModelError, require
from hvisk.export import ct2, onnx_graph, origin
from hvisk.export.onnx_graph import Precision
from hvisk.export.parity import TOLERANCE, Decode, HeldOut, Parity, compare, judge
from hvisk.features import FRAMES_PER_SECOND, MAX_FRAMES, frames_for, log_mel
from hvisk.files import atomic_directory, read_json, write_json
from hvisk.tokens import Tokens

SUFFIXES: dict[Precision, str] = {
    "fp32": "",
    "fp16": "_fp16",
    "q8": "_quantized",
    "q4": "_q4",
}  # Transformers.js' names
_LARGEST = 2**31 - 1  # bytes of a protobuf message


def convert(source: Path, out: Path, *, precision: Precision = "q8", attentions: bool = False) -> None:
    """Write the Whisper in `source` to the new directory `out`, which replaces an older one only when it is complete.

    source: config.json, model.safetensors or its parts, tokenizer files; read if there: generation_config.json,
    preprocessor_config.json, hvisk.json. precision: fp32; fp16, which stores the weights in half and computes in float32;
    q8, all matrices in 8 bits and multiplied in 8 bits; q4, the layers' matrices in 4 bits, embedding and head in 8.
    attentions: the decoder also gives its cross-attention, which word timestamps need and plain text does not.

    Raises ModelError for what is no Whisper directory, misshapen weights, settings that do not fit, and a graph of more
    than 2 GiB, MissingExtra without the package onnx.
    """
    require("onnx", "onnx", "write ONNX files")
    config = origin.whisper_config(source)
    tokens = Tokens.load(source)
    weights = origin.Weights(source, config)
    known: dict[str, NDArray[np.float32]] = {}

    def take(name: str) -> NDArray[np.float32]:
        if name not in known:
            known[name] = weights.take(name)
        return known[name]

    embedding = take("model.decoder.embed_tokens.weight")
    head = take("proj_out.weight") if "proj_out.weight" in weights.left else None
    if head is not None and np.array_equal(head, embedding):
        head = None
    origin.vocabulary(source, tokens, rows=len(embedding))  # raises where they do not fit
    about, generation = origin.described(source, config, tokens)
    decoding = SimpleNamespace()
    ct2.set_decoding(decoding, source, config, generation, tokens)  # raises where they do not fit
    models = {
        "encoder_model": onnx_graph.encoder(take, config, precision),
        "decoder_model_merged": onnx_graph.decoder(take, head, config, precision, attentions),
    }
    if weights.left:
        raise ModelError(
            f"The weights in {source} hold {len(weights.left)} tensors that its config.json does not account for "
            f"('{min(weights.left)}', ...): another number of layers, an unmerged adapter, or another architecture."
        )
    with atomic_directory(out) as directory:
        (directory / "onnx").mkdir()
        for name, model in models.items():
            if model.ByteSize() > _LARGEST:
                raise ModelError(
                    f"{source} makes an ONNX file of {model.ByteSize() / 2**30:.1f} GiB in {precision}; 2 GiB is the most "
                    "that one holds. Export it as fp16, q8 or q4."
                )
            (directory / "onnx" / f"{name}{SUFFIXES[precision]}.onnx").write_bytes(model.SerializeToString())
        tokens.save(directory)
        write_json(directory / "config.json", {**config, "is_encoder_decoder": True})
        heads = {"alignment_heads": decoding.alignment_heads}  # without any, Transformers.js has no times of words
        write_json(directory / "generation_config.json", {**generation, **heads})
        extractor = "preprocessor_config.json"
        write_json(directory / extractor, origin.settings(source / extractor) or origin.extractor(config))
        added = {"precision": precision, "source_fingerprint": origin.fingerprint(source)}
        write_json(directory / "hvisk.json", {"own_length": False, **about, **added})


def export(
    checkpoint: Path,
    out: Path,
    *,
    reference: Decode,
    on: HeldOut,
    precision: Precision = "q8",
    attentions: bool = False,
    own_length: bool | None = None,
    tolerance: float = TOLERANCE,
    force: bool = False,
) -> Parity:
    """Convert `checkpoint` to `out` if the result gives the checkpoint's tokens for at least `tolerance` of the clips.

    reference: the checkpoint's own decoder, float32 mono 16 kHz clips -> text token ids of each.
    own_length: False if the reference hears every clip padded to 30 s, as Transformers.js will; by default as hvisk.json
    says. force: write `out` anyhow. The comparison is stored as `out/parity.json`. On ModelError nothing is written, and
    an older `out` stays.
    """
    with atomic_directory(out) as directory:
        convert(checkpoint, directory, precision=precision, attentions=attentions)
        parity = compare(reference, load(directory, own_length=own_length), on, Tokens.load(checkpoint).decode)
        closer = "--quantise fp16 is larger and computes in full precision" if precision in ("q8", "q4") else ""
        judge(parity, directory, out, {"precision": precision}, tolerance=tolerance, force=force, closer=closer)
    return parity


def load(directory: Path, *, precision: Precision | None = None, own_length: bool | None = None) -> Decode:
    """Return a greedy decoder that onnxruntime computes: float32 mono 16 kHz clips -> the text token ids of each.

    directory: what `convert` has written. precision: by default the one that hvisk.json names. own_length: whether a clip
    is given at its own length or padded to 30 s; by default what hvisk.json says. Clips are decoded one by one: in q8 the
    activations of a batch share their scale, so that a neighbour would be heard. ModelError where files are missing.
    """
    from hvisk.recogniser.engine import DECODER_POSITIONS, MAX_TOKENS_PER_SECOND

    about = read_json(directory / "hvisk.json") if (directory / "hvisk.json").exists() else {}
    suffix = SUFFIXES[precision or about.get("precision", "fp32")]
    encode = _session(directory / "onnx" / f"encoder_model{suffix}.onnx")
    decode = _session(directory / "onnx" / f"decoder_model_merged{suffix}.onnx")
    tokens, bands = Tokens.load(directory), read_json(directory / "config.json")["num_mel_bins"]
    forbidden = read_json(directory / "generation_config.json").get("suppress_tokens") or []
    prompt = tokens.prompt(str(about.get("language", "da")))
    own = about.get("own_length", False) if own_length is None else own_length

    def text(clip: NDArray[np.float32]) -> list[int]:
        frames = frames_for(len(clip), int(about.get("margin", 0))) if own else MAX_FRAMES
        [hidden] = encode(None, {"input_features": log_mel(clip, bands, frames)[None]})
        limit = min(DECODER_POSITIONS - len(prompt), MAX_TOKENS_PER_SECOND * frames // FRAMES_PER_SECOND)
        return _greedy(decode, hidden, prompt, tokens.eot, forbidden, limit)

    return lambda clips: [text(clip) for clip in clips]


def _greedy(
    decode: "_Run", hidden: Any, prompt: Sequence[int], eot: int, forbidden: Sequence[int], limit: int
) -> list[int]:
    feeds = {"encoder_hidden_states": hidden, "input_ids": np.array([prompt]), "use_cache_branch": np.array([False])}
    feeds |= decode.nothing
    found: list[int] = []
    while len(found) < limit:
        results = dict(zip(decode.outputs, decode(None, feeds), strict=True))
        logits = results["logits"][0, -1]
        logits[forbidden] = -np.inf
        token = int(logits[: eot + 1].argmax())  # no special and no timestamp in a text
        if token == eot:
            break
        found.append(token)
        first = not feeds["use_cache_branch"][0]
        for name in decode.nothing:
            if first or ".decoder." in name:  # what was heard stays as it is
                feeds[name] = results[name.replace("past_key_values", "present")]
        feeds |= {"input_ids": np.array([[token]]), "use_cache_branch": np.array([True])}
    return found


class _Run:
    """An onnxruntime session as a function of (output names or None, feeds)."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.outputs = [output.name for output in session.get_outputs()]
        self.nothing = {
            port.name: np.zeros([size if isinstance(size, int) else 0 for size in [1, *port.shape[1:]]], np.float32)
            for port in session.get_inputs()
            if port.name.startswith("past_key_values")
        }

    def __call__(self, names: Sequence[str] | None, feeds: dict[str, Any]) -> list[NDArray[np.float32]]:
        results: list[NDArray[np.float32]] = self.session.run(names, feeds)
        return results


def _session(path: Path) -> _Run:
    import onnxruntime

    if not path.exists():
        raise ModelError(f"{path} is missing: {path.parents[1]} is no ONNX export in that precision. Export it again.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # of optimisations that it did not make, onnxruntime warns at length
    try:
        return _Run(onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]))
    except Exception as error:  # onnxruntime's own have no common base but this
        raise ModelError(f"onnxruntime cannot load {path}: {error}. If it is damaged, export it again.") from error
