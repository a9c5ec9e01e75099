"""A checkpoint -> a clean Hugging Face Whisper directory that stock tools read, and the proof that it still says the same.

What stays behind is what only training needs (optimiser, state) and what only confuses: settings of generation in
config.json, forced tokens that contradict the language asked for. What is added is every file that some converter of
others asks for. No torch is needed.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hvisk.errors import ModelError
from hvisk.export import origin
from hvisk.export.parity import TOLERANCE, Decode, HeldOut, Parity, compare, judge
from hvisk.files import atomic_directory, write_json
from hvisk.tokens import Tokens

Precision = Literal["kept", "float16"]

_LARGEST = float(np.finfo(np.float16).max)


def convert(source: Path, out: Path, *, precision: Precision = "kept") -> None:
    """Write the Whisper in `source` cleanly to the new directory `out`, which replaces an older one only when complete.

    source: config.json, model.safetensors or its numbered parts, tokenizer files; anything else may lie there. precision:
    "kept" copies the weights bit by bit, "float16" is one file in half precision. out: config.json, model.safetensors (or
    its parts with their index), generation_config.json, preprocessor_config.json, hvisk.json, and the tokenizer in both
    of its forms: tokenizer.json with tokenizer_config.json, and vocab.json, merges.txt, added_tokens.json,
    special_tokens_map.json and normalizer.json. alignment_heads are kept where there are any.

    Raises ModelError for what is no Whisper directory, missing or misshapen weights, a tokenizer of another model, and
    weights that float16 cannot hold.
    """
    config = origin.whisper_config(source)
    tokens = Tokens.load(source)
    weights = _checked(source, config)
    if tokens.size > config["vocab_size"]:
        raise ModelError(
            f"The tokenizer in {source} has {tokens.size} tokens, the weights have {config['vocab_size']} rows: they belong "
            "to two models."
        )
    about, generation = origin.described(source, config, tokens)
    settings = {key: value for key, value in config.items() if key not in (*origin.FORMER, *origin.DROPPED)}
    with atomic_directory(out) as directory:
        if precision == "float16":
            _save_halves(weights, directory / "model.safetensors", source)
            settings = {**settings, "dtype": "float16"}
            settings.pop("torch_dtype", None)  # what "dtype" was called before version 5
        else:
            index = source / "model.safetensors.index.json"
            parts = origin.weight_files(source)
            for file in [*parts, *([index] if parts[0].name != "model.safetensors" else [])]:
                shutil.copyfile(file, directory / file.name)
        tokens.save(directory)
        write_json(
            directory / "normalizer.json", origin.settings(source / "normalizer.json")
        )  # of English spelling, if any
        write_json(directory / "config.json", settings)
        write_json(directory / "generation_config.json", generation)
        extractor = "preprocessor_config.json"
        write_json(directory / extractor, origin.settings(source / extractor) or origin.extractor(config))
        write_json(directory / "hvisk.json", {"own_length": False, **about})


def export(
    checkpoint: Path,
    out: Path,
    *,
    reference: Decode,
    on: HeldOut,
    load: Callable[[Path], Decode],
    precision: Precision = "kept",
    tolerance: float = TOLERANCE,
    force: bool = False,
) -> Parity:
    """Convert `checkpoint` to `out` if the result gives the checkpoint's tokens for at least `tolerance` of the clips.

    reference: the checkpoint's own decoder, float32 mono 16 kHz clips -> text token ids of each. load: makes such a
    decoder of the directory that was written, as with transformers, which this module does not import. force: write `out`
    anyhow. The comparison is stored as `out/parity.json`. On ModelError nothing is written, and an older `out` stays.
    """
    with atomic_directory(out) as directory:
        convert(checkpoint, directory, precision=precision)
        parity = compare(reference, load(directory), on, Tokens.load(checkpoint).decode)
        closer = "--quantise kept leaves the weights as they are" if precision == "float16" else ""
        judge(parity, directory, out, {"precision": precision}, tolerance=tolerance, force=force, closer=closer)
    return parity


def _checked(source: Path, config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Every tensor as float32, each of the shape that config.json makes it."""
    weights = origin.Weights(source, config)
    if "model.decoder.embed_tokens.weight" not in weights.left:
        raise ModelError(f"The weights in {source} lack the decoder's embedding: this is no whole Whisper.")
    return {name: weights.take(name) for name in sorted(weights.left)}


def _save_halves(weights: dict[str, NDArray[np.float32]], path: Path, source: Path) -> None:
    for name, values in weights.items():
        if not np.abs(values).max(initial=0) <= _LARGEST:  # NaN is not either
            raise ModelError(
                f"The tensor '{name}' in {source} holds numbers that float16 cannot. Leave the precision as it is."
            )
    save_file({name: values.astype(np.float16) for name, values in weights.items()}, path, metadata={"format": "pt"})
