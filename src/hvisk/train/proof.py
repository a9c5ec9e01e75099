"""A trained model to its export: CTranslate2, proven against the checkpoint's own greedy decoding on held-out clips."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from hvisk import features, files
from hvisk.corpora.store import Store
from hvisk.errors import ModelError
from hvisk.export import ct2
from hvisk.export.parity import Parity
from hvisk.train import model as whisper

Quantisation = Literal["auto", "int8", "float16", "float32"]


def export(
    source: Path,
    out: Path,
    *,
    on: Path | None,
    clips: int,
    quantisation: Quantisation = "auto",
    force: bool = False,
    tell: Callable[[str], None],
) -> Parity:
    """Export the Hugging Face directory `source` to `out` and return the comparison on `clips` clips of the corpus `on`.

    on: by default the corpus that the model was validated with, as its hvisk.json says. quantisation: "auto" is int8 where
    that says what the checkpoint says, else float16, with the refusal given to `tell`. Raises ModelError where no corpus is
    known, and where too many clips differ.
    """
    about = files.read_json(source / "hvisk.json") if (source / "hvisk.json").exists() else {}
    corpus = on or (Path(about["recipe"]["validation"]) if "recipe" in about else None)
    if corpus is None:
        raise ModelError(f"{source} does not say what it was validated with. Add --on CORPUS, made by hvisk prepare.")
    store = Store.open(corpus)
    chosen = store.sample(clips)
    sounds = [store.audio(i) for i in chosen]
    model = whisper.load(source)
    # As the recogniser will: a model from elsewhere hears clips padded to 30 s, the length that it was trained for.
    margin = int(about.get("margin", 0)) if about.get("own_length") else features.MAX_FRAMES
    expected = whisper.transcribe(model, sounds, language=str(about.get("language", "da")), margin=margin)

    def as_format(chosen_format: ct2.Quantisation) -> Parity:
        ids = [store.ids[i] for i in chosen]
        return ct2.export(
            source, out, reference=lambda _: expected, clips=sounds, ids=ids, quantisation=chosen_format, force=force
        )

    if quantisation != "auto":
        return as_format(quantisation)
    try:
        return as_format("int8")
    except ModelError as refused:
        # A CPU computes in float32 with it: half the bytes of float32, and the same text (LOG.md).
        tell(f"int8 is refused, float16 is tried: {refused}")
        return as_format("float16")
