"""The words that a model was trained on, read from its corpora, so that names new to it can be told from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import text
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError


@dataclass(frozen=True)
class Seen:
    """Normalised words of training texts. corpora: path, name and fingerprint of each; note: what else was learnt from."""

    words: frozenset[str]
    corpora: tuple[dict[str, str], ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """What scores.json says of it: all but the words."""
        return {"corpora": list(self.corpora), "words": len(self.words), "note": self.note}


def gather(corpora: Sequence[Path], note: str = "") -> Seen:
    """Read the words of corpora made by hvisk prepare. Raises CorpusError where one cannot be read."""
    words: set[str] = set()
    told = []
    for path in corpora:
        store = Store.open(path)
        for line in store.texts:
            words.update(text.words(line))
        told.append({"path": str(path), "name": str(store.manifest["name"]), "fingerprint": store.fingerprint})
    return Seen(frozenset(words), tuple(told), note)


def of_model(about: Mapping[str, Any], directory: Path | None = None) -> tuple[Seen | None, str]:
    """Return the words that a model of hvisk's learnt from, or None and why not.

    about: its hvisk.json, which names the corpora with their fingerprints, and in its recipe where they lay: seen from where
    we are, or from a directory above the model's. All of them must still be there as they were: a word of a missing corpus
    would be taken for new.
    """
    trained = {str(corpus.get("fingerprint")): str(corpus.get("name")) for corpus in about.get("corpora", ())}
    if not trained:
        return None, "the model does not name the corpora that it was trained on"
    places = [Path(place) for place in about.get("recipe", {}).get("train", ()) if isinstance(place, str)]
    above = directory.resolve().parents if directory and directory.exists() else ()
    found: dict[str, Path] = {}
    for place in [*places, *(parent / place for place in places for parent in above)]:
        if not (place / "manifest.json").exists():
            continue
        try:
            found[Store.open(place).fingerprint] = place
        except (CorpusError, OSError):
            continue  # of another format, or damaged: told below, by the name of what is missing
    missing = [name for fingerprint, name in trained.items() if fingerprint not in found]
    if missing:
        return (
            None,
            f"{', '.join(missing)} is not where it was trained from, or no longer the same; name it with --seen",
        )
    base = str(about.get("base") or "")
    note = f"What {base} had learnt from before is not counted as seen." if base else ""
    return gather([found[fingerprint] for fingerprint in trained], note), ""


def again(kept: Mapping[str, Any] | None) -> Seen | None:
    """Return the words of what `to_dict` told of, None where a corpus is no longer there as it was."""
    if not kept:
        return None
    try:
        found = gather([Path(corpus["path"]) for corpus in kept["corpora"]], kept["note"])
    except (CorpusError, OSError):
        return None
    return found if found.corpora == tuple(kept["corpora"]) else None
