"""A trained model to its exports, each proven against the checkpoint's own greedy decoding on held-out clips.

prepare(model)                        clips, what the checkpoint hears in them, and which heads time its words
export(proof, out, "onnx")            one export, written if it says the same
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hvisk import features, files, models
from hvisk.corpora.store import Store
from hvisk.errors import HviskError, MissingExtra, ModelError
from hvisk.export import ct2, ggml, heads, hugging_face, onnx
from hvisk.export.parity import Decode, HeldOut, Parity
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


HEADS_SENTENCES = 40  # spoken sentences, some 250 words, on which alignment heads are found


@dataclass(frozen=True)
class Proof:
    """A model, and the clips on which its exports are compared with it.

    heard: the checkpoint's tokens of each clip, with so many frames of silence behind it. about: its hvisk.json. heads:
    finds those that its exports are given for the times of words; none where it names its own, and where none can be found.
    """

    source: Path
    on: HeldOut
    heard: Callable[[int], list[list[int]]]
    about: dict[str, Any]
    heads: Callable[[], heads.Heads]

    def reference(self, *, padded: bool) -> Decode:
        """The checkpoint's tokens: of clips at the length that the model is made for, or of clips padded to 30 s."""
        own = bool(self.about.get("own_length")) and not padded
        margin = int(self.about.get("margin", 0)) if own else features.MAX_FRAMES
        return lambda _: self.heard(margin)


def prepare(source: Path, *, on: Path | None, clips: int, tell: Callable[[str], None]) -> Proof:
    """Load the Hugging Face directory `source` and `clips` clips of the corpus `on`.

    on: by default the corpus that the model was validated with, as its hvisk.json says. tell: is told which alignment
    heads were found, and why none were. Raises ModelError where no corpus is known.
    """
    about = files.read_json(source / "hvisk.json") if (source / "hvisk.json").exists() else {}
    corpus = on or (Path(about["recipe"]["validation"]) if "recipe" in about else None)
    if corpus is None:
        raise ModelError(f"{source} does not say what it was validated with. Add --on CORPUS, made by hvisk prepare.")
    store = Store.open(corpus)
    chosen = store.sample(clips)
    held_out = HeldOut(
        [store.audio(i) for i in chosen],
        [store.ids[i] for i in chosen],
        [store.texts[i] for i in chosen],
        [store.speakers[i] for i in chosen],
    )
    model, language = whisper.load(source), str(about.get("language", "da"))

    @functools.cache  # several formats are compared with the same
    def heard(margin: int) -> list[list[int]]:
        return whisper.transcribe(model, held_out.clips, language=language, margin=margin)

    @functools.cache
    def found() -> heads.Heads:
        return _heads(source, language, tell)

    return Proof(source, held_out, heard, about, found)


def export(
    proof: Proof,
    out: Path,
    to: Format = "ct2",
    *,
    quantisation: str = "auto",
    original: str = "",
    attentions: bool = False,
    force: bool = False,
    tell: Callable[[str], None],
) -> tuple[str, Parity]:
    """Export to `out` and return the quantisation and the comparison with the checkpoint.

    quantisation: "auto" is the first of AUTO that says what the checkpoint says, with the refusals given to `tell`.
    original: of a trimmed model the name of the whole one, for ggml. attentions: onnx also gives the cross-attention, for
    the times of words. Raises ModelError where too many clips differ, and HviskError for a quantisation that the format
    lacks.
    """
    known = (*AUTO[to], *OTHERS[to])
    if quantisation not in ("auto", *known):
        raise HviskError(f"{to} has no '{quantisation}'. Accepted: auto, {', '.join(known)}.")

    def made(wanted: str) -> tuple[str, Parity]:
        parity = _export(proof, out, to, wanted, original, attentions, force)
        if to != "ggml" and (found := proof.heads()):  # a ggml file has no place for them
            heads.store(out, found)
        return wanted, parity

    *first, last = AUTO[to] if quantisation == "auto" else (quantisation,)
    for wanted in first:
        try:
            return made(wanted)
        except ModelError as refused:
            if "was not written" not in str(refused):
                raise
            tell(f"{to}: {wanted} is refused, {last} is tried: {refused}")
    return made(last)


def _heads(source: Path, language: str, tell: Callable[[str], None]) -> heads.Heads:
    if heads.known(source):
        return []
    why = "hvisk can only speak Danish to find them"
    if language == "da":
        try:
            found, timing = heads.find(source, heads.spoken(HEADS_SENTENCES))
            tell(f"Alignment heads, for the times of words: {found}; {timing} of the synthetic speech that chose them")
            return found
        except MissingExtra as error:
            why = str(error).rstrip(".")
    tell(f"The times of words will follow the later half of the decoder, for no alignment heads are known: {why}.")
    return []


def _export(
    proof: Proof, out: Path, to: Format, quantisation: Any, original: str, attentions: bool, force: bool
) -> Parity:
    shared: dict[str, Any] = {"on": proof.on, "force": force}
    if to == "ct2":
        heard = proof.reference(padded=False)
        return ct2.export(proof.source, out, reference=heard, quantisation=quantisation, **shared)
    heard = proof.reference(padded=True)  # the others' runtimes pad
    if to == "onnx":
        shared |= {"precision": quantisation, "attentions": attentions, "own_length": False}
        return onnx.export(proof.source, out, reference=heard, **shared)
    if to == "ggml":
        whole = models.hugging_face(original) if original else None
        return ggml.export(proof.source, out, reference=heard, quantisation=quantisation, original=whole, **shared)

    def reload(directory: Path) -> Decode:
        again = whisper.load(directory)
        language = str(proof.about.get("language", "da"))
        return lambda clips: whisper.transcribe(again, clips, language=language, margin=features.MAX_FRAMES)

    return hugging_face.export(proof.source, out, reference=heard, load=reload, precision=quantisation, **shared)
