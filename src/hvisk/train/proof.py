"""A trained model to its export: CTranslate2, proven against the checkpoint's own greedy decoding on held-out clips."""

from pathlib import Path

from hvisk import features, files
from hvisk.corpora.store import Store
from hvisk.errors import ModelError
from hvisk.export import ct2
from hvisk.export.parity import Parity
from hvisk.train import model as whisper


def export(
    source: Path,
    out: Path,
    *,
    on: Path | None,
    clips: int,
    quantisation: ct2.Quantisation = "int8",
    force: bool = False,
) -> Parity:
    """Export the Hugging Face directory `source` to `out` and return the comparison on `clips` clips of the corpus `on`.

    on: by default the corpus that the model was validated with, as its hvisk.json says. Raises ModelError where
    there is none, and where too many clips differ.
    """
    about = files.read_json(source / "hvisk.json") if (source / "hvisk.json").exists() else {}
    corpus = on or (Path(about["recipe"]["validation"]) if "recipe" in about else None)
    if corpus is None:
        raise ModelError(f"{source} does not say what it was validated with. Add --on CORPUS, made by hvisk prepare.")
    store = Store.open(corpus)
    chosen = store.sample(clips)
    model = whisper.load(source)
    language = str(about.get("language", "da"))
    # As the recogniser will: a model from elsewhere hears clips padded to 30 s, the length that it was trained for.
    margin = int(about.get("margin", 0)) if about.get("own_length") else features.MAX_FRAMES
    return ct2.export(
        source,
        out,
        reference=lambda sounds: whisper.transcribe(model, sounds, language=language, margin=margin),
        clips=[store.audio(i) for i in chosen],
        ids=[store.ids[i] for i in chosen],
        quantisation=quantisation,
        force=force,
    )
