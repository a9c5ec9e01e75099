"""A model that recognises as the one that ships with hvisk does, and costs what whisper-tiny costs.

Speed beside a word error rate needs weights that recognise, in the shape of the model that everybody knows. So the shipped base
(width 128, 4+2 layers, 1,890 tokens) is made into whisper-tiny's shape (384, 4+4 layers, 51,865 tokens) without a change in
what it says: each feature is there three times, so that means and variances stay, and each product of three copies is divided
by three; the two further layers add nothing; its letters have the rows that OpenAI's vocabulary has for them, and all other
rows are out of reach. Every runtime computes all of it, as it would for whisper-tiny.

Its tokens are letters, some two and a half for one of Whisper's word pieces, so that its texts take as many more steps.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

import _clips
from hvisk import models
from hvisk.export import origin, trim
from hvisk.files import write_json
from hvisk.tokens import Tokens

COPIES = 3
LAYERS = 4  # of whisper-tiny's decoder
LANGUAGES = ("da@nb",)  # Danish sentences, read aloud by Norwegians: what the base has learnt, and not these ones

# The last norm's third copy is nothing but CONSTANT in one place, and a row that must never be chosen has there what makes
# its logit OUT_OF_REACH. Small enough for int8 to hold beside the others, which reach some 5.
CONSTANT = 2.0
OUT_OF_REACH = -40.0

KEPT = 6_500  # of the text tokens of a trimmed vocabulary, which has 8,192 or so with the languages and timestamps

Array = NDArray[np.float32]
_EMBEDDING = "model.decoder.embed_tokens.weight"
_LAST_NORM = "model.decoder.layer_norm"


def write(out: Path, name: str = "hvisk:demo-base") -> Path:
    """Write the Hugging Face Whisper of whisper-tiny's shape that says what `name` says into the new directory `out`."""
    source = models.hugging_face(name)
    config = origin.whisper_config(source)
    given = origin.Weights(source, config)
    out.mkdir(parents=True)
    tokens = _clips.openai_tokens(out)
    wide = {name: widened(name, given.take(name)) for name in sorted(given.left)}
    _final_norm(wide)
    wide[_EMBEDDING] = _rows(wide[_EMBEDDING], Tokens.load(source), tokens)
    for layer in range(config["decoder_layers"], LAYERS):
        wide |= idle(wide, layer)
    save_file({name: np.ascontiguousarray(value) for name, value in wide.items()}, out / "model.safetensors")
    tokens.save(out)
    sizes = {
        "d_model": COPIES * config["d_model"],
        "decoder_layers": LAYERS,
        "vocab_size": tokens.size,
        "num_hidden_layers": config["encoder_layers"],
        "dtype": "float32",
        **{f"{side}_attention_heads": COPIES * config[f"{side}_attention_heads"] for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": COPIES * config[f"{side}_ffn_dim"] for side in ("encoder", "decoder")},
    }
    ends = {"bos_token_id": tokens.eot, "eos_token_id": tokens.eot, "pad_token_id": tokens.eot}
    starts = {"decoder_start_token_id": tokens.sot}
    write_json(out / "config.json", {**config, **sizes, **ends, **starts})
    generation = {
        **ends,
        **starts,
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": tokens.language(code) for code in tokens.languages()},
        "task_to_id": {"transcribe": tokens.transcribe, "translate": tokens.translate},
        "no_timestamps_token_id": tokens.no_timestamps,
        "max_length": 448,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "max_initial_timestamp_index": 50,
        "return_timestamps": False,
    }
    write_json(out / "generation_config.json", generation)
    write_json(out / "preprocessor_config.json", origin.extractor(config))
    about = origin.settings(source / "hvisk.json")
    write_json(out / "hvisk.json", {key: about[key] for key in ("own_length", "margin", "language") if key in about})
    return out


def trimmed(source: Path, out: Path) -> int:
    """Write what `write` has made with the vocabulary of a Danish model to `out`; return how many tokens that is."""
    rows = origin.Weights(source, origin.whisper_config(source)).take(_EMBEDDING)
    within_reach = np.flatnonzero(rows[:, -rows.shape[1] // COPIES] != OUT_OF_REACH / CONSTANT)
    return trim.trim(source, out, {*range(KEPT), *map(int, within_reach)}).after.tokens


def widened(name: str, values: Array) -> Array:
    """A tensor for COPIES copies of each feature: what sums over them is divided by their number."""
    if values.ndim == 1:
        return np.tile(values, COPIES)
    if name.endswith("conv1.weight"):  # what it sums over is mel bins, of which there are no more than before
        return np.tile(values, (COPIES, 1, 1))
    if name.endswith(("embed_positions.weight", "embed_tokens.weight")):
        return np.tile(values, (1, COPIES))
    return np.tile(values, (COPIES, COPIES) + (1,) * (values.ndim - 2)) / np.float32(COPIES)


def idle(wide: dict[str, Array], layer: int) -> dict[str, Array]:
    """A decoder layer as the first one, which computes as much and adds nothing."""
    first, name = "model.decoder.layers.0.", f"model.decoder.layers.{layer}."
    adds: Callable[[str], bool] = lambda key: "out_proj" in key or ".fc2." in key  # noqa: E731
    return {
        key.replace(first, name): np.zeros_like(value) if adds(key) else value
        for key, value in wide.items()
        if key.startswith(first)
    }


def _final_norm(wide: dict[str, Array]) -> None:
    """Give the last copy a constant, and the others what it had: the rows of letters are the same in all copies."""
    gain, bias = wide[f"{_LAST_NORM}.weight"], wide[f"{_LAST_NORM}.bias"]
    width = len(gain) // COPIES
    gain /= COPIES - 1
    bias[0] -= CONSTANT
    bias[width : (COPIES - 1) * width : width] -= CONSTANT
    bias /= COPIES - 1
    gain[-width:], bias[-width:] = 0, 0
    bias[-width] = CONSTANT


def _rows(given: Array, small: Tokens, whole: Tokens) -> Array:
    rows = np.zeros((whole.size, given.shape[1]), np.float32)
    rows[:, -given.shape[1] // COPIES] = OUT_OF_REACH / CONSTANT
    for token, index in small.tokenizer.get_vocab(with_added_tokens=True).items():
        place = whole.tokenizer.token_to_id(token)
        if place is not None:
            rows[place] = given[index]
    return rows
