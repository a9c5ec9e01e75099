"""A Whisper with fewer tokens, and back again: rows of the embedding are chosen, nothing is retrained.

    trim(source, out, keep)             a smaller Hugging Face Whisper
    untrim(trimmed, original, out)      its whole vocabulary again, for runtimes that hard-code the ids

A trimmed model gives the same logits for the tokens that it keeps (`export/kept.py` says which), and writes what it dropped
with several tokens instead of one. Nothing needs to be recorded for the way back: a token is found in the original
vocabulary by what it spells.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hvisk.errors import ModelError
from hvisk.export import kept
from hvisk.export.origin import fingerprint, weight_files
from hvisk.files import atomic_directory, read_json, write_json
from hvisk.tokens import Tokens

_EMBEDDING, _PROJECTION = "model.decoder.embed_tokens.weight", "proj_out.weight"
_COPIED = ("preprocessor_config.json", "normalizer.json")
_LISTS = ("suppress_tokens", "begin_suppress_tokens")
_MAPS = ("lang_to_id", "task_to_id")
_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}

Array = NDArray[Any]


@dataclass(frozen=True)
class Size:
    """How large a model is: tokens, parameters, and bytes of its weights on disk."""

    tokens: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Trimmed:
    """A model before and after its vocabulary was changed."""

    before: Size
    after: Size

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def trim(source: Path, out: Path, keep: Iterable[int], *, text: str = "") -> Trimmed:
    """Write the Whisper in `source` with the tokens `keep` alone to the new directory `out`.

    source: a Hugging Face Whisper directory with safetensors. keep: ids of its vocabulary; what a Whisper cannot be
    without, and the parts of the kept tokens, are added. out: an ordinary Hugging Face Whisper, which replaces an older
    one only when it is complete; bfloat16 becomes float32 there, everything else keeps its format. Its hvisk.json has
    `trimmed_from`: the fingerprint and size of what it was cut from, and `text`, a name for what the choice was made by.
    ModelError for what is no such Whisper, and for settings that need a token which is dropped.
    """
    _apart(out, source)
    tokens = Tokens.load(source)
    rows = kept.complete(tokens, keep)
    smaller = kept.cut(tokens, rows)
    ids = {old: new for new, old in enumerate(rows)}
    weights = _weights(source)
    before = _size(source, tokens, weights)
    for name in _vocabulary_tensors(weights, source):
        if len(weights[name]) < tokens.size:
            raise ModelError(f"The weights in {source} have {len(weights[name])} rows for {tokens.size} tokens.")
        weights[name] = weights[name][rows]
    about = _about(source)
    origin = {"fingerprint": fingerprint(source), "tokens": tokens.size, "text": text}
    if "trimmed_from" in about:  # cut twice: the way back leads to either
        origin["trimmed_from"] = about["trimmed_from"]
    with atomic_directory(out) as directory:
        _save(directory, source, weights, smaller, {**about, "trimmed_from": origin})
        for name, settings in _settings(source).items():
            write_json(directory / name, _renumbered(settings, ids, source / name))
        config = read_json(directory / "config.json")
        write_json(directory / "config.json", {**config, "vocab_size": smaller.size})
        after = _size(directory, smaller, weights)
    return Trimmed(before, after)


def untrim(trimmed: Path, original: Path, out: Path) -> Trimmed:
    """Write the model in `trimmed` with the whole vocabulary of `original` to the new directory `out`.

    trimmed: what `trim` has made of `original`, trained further or not. Its own rows are kept bit by bit, the others are
    the original's, in the trimmed model's number format; so are the tokenizer, and what the original would never say. For
    whisper.cpp and others that hard-code Whisper's ids. After training, a token that was dropped has not learnt with the
    rest and may be chosen again. ModelError where the two do not belong together.
    """
    _apart(out, trimmed, original)
    few, many = Tokens.load(trimmed), Tokens.load(original)
    about, source = _about(trimmed), _about(original)
    origins = _origins(about)
    if origins and fingerprint(original) not in origins:
        raise ModelError(
            f"{trimmed} was not trimmed from {original}: its hvisk.json names weights with the fingerprint "
            f"{origins[0][:12]}..., these have {fingerprint(original)[:12]}.... Give the model that was trimmed."
        )
    vocabulary = few.tokenizer.get_vocab()
    whole = many.tokenizer.get_vocab()
    if strangers := sorted(vocabulary.keys() - whole.keys()):
        raise ModelError(f"{trimmed} was not trimmed from {original}, whose vocabulary has no token '{strangers[0]}'.")
    ids = {index: whole[token] for token, index in vocabulary.items()}
    places = [ids[index] for index in range(few.size)]
    weights, others = _weights(trimmed), _weights(original)
    before = _size(trimmed, few, weights)
    _vocabulary_tensors(others, original)
    for name in _vocabulary_tensors(weights, trimmed):
        rows, base = weights[name], others.get(name, others[_EMBEDDING])
        if len(rows) != few.size or rows.shape[1] != base.shape[1] or len(base) < many.size:
            raise ModelError(
                f"{trimmed} and {original} do not fit together: embeddings of {rows.shape} and {base.shape} for "
                f"{few.size} and {many.size} tokens."
            )
        weights[name] = base.astype(rows.dtype)
        weights[name][places] = rows
    about.pop("trimmed_from", None)
    if "trimmed_from" in source:
        about["trimmed_from"] = source["trimmed_from"]
    theirs = _settings(original)
    with atomic_directory(out) as directory:
        _save(directory, trimmed, weights, many, about)
        for name, settings in _settings(trimmed).items():
            back = _renumbered(settings, ids, trimmed / name)
            for key in _LISTS:
                # What was dropped could not be said, and is not to come back because it is there again.
                if isinstance(back.get(key), list):
                    forbidden = set(theirs.get(name, {}).get(key) or []) - set(places)
                    back[key] = sorted({*back[key], *forbidden})
            write_json(directory / name, back)
        config = read_json(directory / "config.json")
        write_json(directory / "config.json", {**config, "vocab_size": len(weights[_EMBEDDING])})
        after = _size(directory, many, weights)
    return Trimmed(before, after)


def for_training(base: Path, lines: Iterable[str], size: int, out: Path) -> Path:
    """Return a directory with `base` trimmed to `size` tokens, chosen by the texts to be learnt from.

    The answer is `out`, made if it is not there yet from the same base and texts, or `base` where that has no more tokens.
    What is chosen depends on the words and their counts alone. Of several processes, one calls this before the others.
    """
    tokens = Tokens.load(base)
    if tokens.size <= size:
        return base
    counts = kept.words(lines)
    text = hashlib.sha256("\n".join(f"{word}\t{counts[word]}" for word in sorted(counts)).encode()).hexdigest()
    if (out / "hvisk.json").exists():
        made = _about(out).get("trimmed_from", {})
        same = (made.get("fingerprint"), made.get("text")) == (fingerprint(base), text)
        if same and read_json(out / "config.json")["vocab_size"] == size:
            return out
    trim(base, out, kept.choose(counts, tokens, size), text=text)
    return out


# --- the files -------------------------------------------------------------------------------------------------------


def _apart(out: Path, *sources: Path) -> None:
    for source in sources:
        if out.resolve() == source.resolve():
            raise ModelError(f"{out} would be replaced by what is made of it. Choose another --out.")


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except ValueError as error:
        raise ModelError(f"{path} cannot be read as JSON ({error}). Copy or download it again.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object. Copy or download it again.")
    return value


def _about(directory: Path) -> dict[str, Any]:
    return _json(directory / "hvisk.json") if (directory / "hvisk.json").exists() else {}


def _origins(about: dict[str, Any]) -> list[str]:
    """The fingerprints of what a model was trimmed from, the latest first."""
    origin = about.get("trimmed_from")
    return [str(origin["fingerprint"]), *_origins(origin)] if origin else []


def _settings(directory: Path) -> dict[str, dict[str, Any]]:
    """The files that name token ids."""
    if not (directory / "config.json").exists():
        raise ModelError(f"{directory} holds no config.json. Accepted: a Hugging Face Whisper directory.")
    names = [name for name in ("config.json", "generation_config.json") if (directory / name).exists()]
    return {name: _json(directory / name) for name in names}


def _renumbered(settings: dict[str, Any], ids: Mapping[int, int], path: Path) -> dict[str, Any]:
    """Settings with every token id replaced; lists of forbidden tokens lose those that are not there any more."""

    def one(key: str, index: Any) -> Any:
        if isinstance(index, list):
            return [one(key, part) for part in index]
        if index is not None and index not in ids:
            raise ModelError(f"{path} names token {index} ({key}), which is not kept, or was none. Correct that file.")
        return None if index is None else ids[index]

    changed = dict(settings)
    for key, value in settings.items():
        if key in _LISTS and isinstance(value, list):
            changed[key] = [ids[index] for index in value if index in ids]
        elif key in _MAPS and isinstance(value, dict):
            changed[key] = {name: one(key, index) for name, index in value.items()}
        elif key == "forced_decoder_ids" and isinstance(value, list):
            changed[key] = [[place, one(key, index)] for place, index in value]
        elif key.endswith("_token_id"):
            changed[key] = one(key, value)
    return changed


def _weights(source: Path) -> dict[str, Array]:
    """The tensors as numpy arrays; bfloat16, which numpy lacks, as float32, which holds every value of it."""
    found: dict[str, Array] = {}
    parts = weight_files(source)
    if not parts:
        raise ModelError(
            f"{source} holds no weights in safetensors. Needed: model.safetensors, or its parts with their index."
        )
    for part in parts:
        try:
            entries = safetensors.deserialize(part.read_bytes())  # type: ignore[no-untyped-call]
        except safetensors.SafetensorError as error:
            raise ModelError(f"{part} cannot be read as safetensors ({error}). Copy or download it again.") from error
        for name, entry in entries:
            kind = entry["dtype"]
            if kind not in _NUMPY_TYPES:
                raise ModelError(f"{part} holds '{name}' as {kind}. Accepted: {', '.join(_NUMPY_TYPES)}.")
            array: Array = np.frombuffer(entry["data"], dtype=_NUMPY_TYPES[kind]).reshape(entry["shape"])
            found[name] = (array.astype("<u4") << 16).view("<f4") if kind == "BF16" else array
    return found


def _vocabulary_tensors(weights: Mapping[str, Array], source: Path) -> list[str]:
    """The tensors with a row for each token: the embedding, and the projection where it is not the same."""
    if _EMBEDDING not in weights:
        raise ModelError(f"The weights in {source} lack the tensor '{_EMBEDDING}': this is no whole Whisper.")
    return [name for name in (_EMBEDDING, _PROJECTION) if name in weights]


def _size(directory: Path, tokens: Tokens, weights: Mapping[str, Array]) -> Size:
    disk = sum(part.stat().st_size for part in weight_files(directory))
    return Size(tokens.size, sum(array.size for array in weights.values()), disk)


def _save(directory: Path, source: Path, weights: dict[str, Array], tokens: Tokens, about: dict[str, Any]) -> None:
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    tokens.save(directory)
    for name in _COPIED:
        if (source / name).exists():
            (directory / name).write_bytes((source / name).read_bytes())
    parameters = {"parameters": sum(array.size for array in weights.values())} if "parameters" in about else {}
    write_json(directory / "hvisk.json", {**about, **parameters})
