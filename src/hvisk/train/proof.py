"""A trained model to its exports, each proven against the checkpoint's own greedy decoding on held-out clips."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvisk import features, files, models
from hvisk.corpora.store import Store
from hvisk.errors import HviskError, ModelError
from hvisk.export import ct2, ggml, hugging_face, onnx
from hvisk.export.parity import Decode, Parity
from hvisk.train import model as whisper

Format = Literal["ct2", "onnx", "ggml", "hf"]

# What each format can be stored in; the first ones are tried in turn where nobody chooses. A CPU computes CTranslate2's
# float16 in float32, with the same text (LOG.md).
AUTO: dict[Format, tuple[str, ...]] = {
    "ct2": ("int8", "float16"),
    "onnx": ("q8", "fp16"),
    "ggml": ("q8_0", "f16"),
    "hf": ("kept",),
}
OTHERS: dict[Format, tuple[str, ...]] = {
    "ct2": ("float32",),
    "onnx": ("fp32", "q4"),
    "ggml": ("q5_1",),
    "hf": ("float16",),
}


@dataclass(frozen=True)
class Proof:
    """What exports are compared on: clips of float32, 16 kHz, with their names.

    heard: the checkpoint's tokens of each, with so many frames of silence behind it. about: its hvisk.json.
    """

    source: Path
    clips: Sequence[NDArray[np.float32]]
    ids: Sequence[str]
    heard: Callable[[int], list[list[int]]]
    about: dict[str, Any]

    def reference(self, *, padded: bool) -> Decode:
        """The checkpoint's tokens: of clips at the length that the model is made for, or of clips padded to 30 s."""
        own = bool(self.about.get("own_length")) and not padded
        margin = int(self.about.get("margin", 0)) if own else features.MAX_FRAMES
        return lambda _: self.heard(margin)


def prepare(source: Path, *, on: Path | None, clips: int) -> Proof:
    """Load the Hugging Face directory `source` and `clips` clips of the corpus `on`.

    on: by default the corpus that the model was validated with, as its hvisk.json says. Raises ModelError where none is
    known.
    """
    about = files.read_json(source / "hvisk.json") if (source / "hvisk.json").exists() else {}
    corpus = on or (Path(about["recipe"]["validation"]) if "recipe" in about else None)
    if corpus is None:
        raise ModelError(f"{source} does not say what it was validated with. Add --on CORPUS, made by hvisk prepare.")
    store = Store.open(corpus)
    chosen = store.sample(clips)
    sounds, ids = [store.audio(i) for i in chosen], [store.ids[i] for i in chosen]
    model, language = whisper.load(source), str(about.get("language", "da"))

    @functools.cache  # several formats are compared with the same
    def heard(margin: int) -> list[list[int]]:
        return whisper.transcribe(model, sounds, language=language, margin=margin)

    return Proof(source, sounds, ids, heard, about)


def export(
    proof: Proof,
    out: Path,
    to: Format = "ct2",
    *,
    quantisation: str = "auto",
    original: str = "",
    force: bool = False,
    tell: Callable[[str], None],
) -> tuple[str, Parity]:
    """Export to `out` and return the quantisation and the comparison with the checkpoint.

    quantisation: "auto" is the first of AUTO that says what the checkpoint says, with the refusals given to `tell`.
    original: of a trimmed model the name of the whole one, for ggml. Raises ModelError where too many clips differ, and
    HviskError for a quantisation that the format lacks.
    """
    if quantisation != "auto":
        known = (*AUTO[to], *OTHERS[to])
        if quantisation not in known:
            raise HviskError(f"{to} has no '{quantisation}'. Accepted: auto, {', '.join(known)}.")
        return quantisation, _export(proof, out, to, quantisation, original, force)
    *first, last = AUTO[to]
    for wanted in first:
        try:
            return wanted, _export(proof, out, to, wanted, original, force)
        except ModelError as refused:
            if "was not written" not in str(refused):
                raise
            tell(f"{to}: {wanted} is refused, {last} is tried: {refused}")
    return last, _export(proof, out, to, last, original, force)


def _export(proof: Proof, out: Path, to: Format, quantisation: Any, original: str, force: bool) -> Parity:
    shared: dict[str, Any] = {"clips": proof.clips, "ids": proof.ids, "force": force}
    if to == "ct2":
        heard = proof.reference(padded=False)
        return ct2.export(proof.source, out, reference=heard, quantisation=quantisation, **shared)
    heard = proof.reference(padded=True)  # the others' runtimes pad
    if to == "onnx":
        return onnx.export(proof.source, out, reference=heard, precision=quantisation, own_length=False, **shared)
    if to == "ggml":
        whole = models.hugging_face(original) if original else None
        return ggml.export(proof.source, out, reference=heard, quantisation=quantisation, original=whole, **shared)

    def reload(directory: Path) -> Decode:
        again = whisper.load(directory)
        language = str(proof.about.get("language", "da"))
        return lambda clips: whisper.transcribe(again, clips, language=language, margin=features.MAX_FRAMES)

    return hugging_face.export(proof.source, out, reference=heard, load=reload, precision=quantisation, **shared)
