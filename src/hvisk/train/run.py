"""A run's directory: whose it is, what its models say of themselves, and which of them is the result."""

import dataclasses
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvisk import __version__, files, licences, models
from hvisk.corpora.store import Store
from hvisk.errors import RecipeError
from hvisk.export import trim
from hvisk.train.model import Whisper
from hvisk.train.recipe import Recipe
from hvisk.train.streaming import Stream

# What may differ between two calls of one run: where things lie, and what leaves the weights as they are. The corpora's
# fingerprints are compared instead of their paths. A budget may be changed, and the machine.
BUDGET = ("steps", "epochs", "minutes")
FREE = (
    *(
        "out",
        "train",
        "validation",
        "tests",
        "allow_test_clips",
        "watch",
        "keep_checkpoints",
        "loader_threads",
        "tracker",
        "push_to",
        "processes",
    ),
    *BUDGET,
)


def claim(run: Path, recipe: Recipe, stores: list[Store], validation: Store) -> list[str]:
    """Write recipe.json with the corpora's fingerprints, or refuse a directory where another recipe or other data began.

    Returns what differs and is allowed to, in words.
    """
    resolved: dict[str, Any] = {
        "recipe": recipe.plain(),
        "corpora": {s.path.as_posix(): s.fingerprint for s in [*stores, validation]},
        "hvisk": __version__,
    }
    path, changed = run / "recipe.json", []
    if path.exists() and (run / "log.jsonl").exists():  # before its first measurement a run has nothing to lose
        earlier = files.read_json(path)
        then = {**Recipe("", ("t",), "v", steps=1).plain(), **earlier["recipe"]}  # of an hvisk that had fewer keys
        now = recipe.plain()
        other = [f"{k} = {then[k]!r}, now {v!r}" for k, v in now.items() if k not in FREE and then[k] != v]
        if list(earlier["corpora"].values()) != list(resolved["corpora"].values()):
            other.append("other corpora (their fingerprints differ)")
        if other:
            raise RecipeError(f"{run} holds another run: {'; '.join(other)}. Choose another out=, or delete it.")
        changed = [f"{k} was {then[k]!r} and is now {now[k]!r}" for k in BUDGET if then[k] != now[k]]
    files.write_json(path, resolved)
    return changed


def foundation(recipe: Recipe, run: Path, stores: Sequence[Store]) -> Path | None:
    """Return the directory of the recipe's base, cut to its vocabulary; None for random weights.

    Of several processes one calls this first, and the others find the smaller base in the run's directory.
    """
    if not recipe.base:
        return None
    directory = models.hugging_face(recipe.base)
    if not recipe.vocabulary:
        return directory
    lines = itertools.chain.from_iterable(store.texts for store in stores)
    return trim.for_training(directory, lines, recipe.vocabulary, run / "base")


def describe(recipe: Recipe, stores: Sequence[Store], streams: Sequence[Stream], model: Whisper) -> dict[str, Any]:
    """What goes into hvisk.json beside the weights.

    base_corpora: what the base had learnt from; its licences hold for what is made of it too. licence: what all that
    together lets the model be called.
    """
    own: list[dict[str, Any]] = [
        {k: s.manifest[k] for k in ("name", "licence", "clips", "seconds", "speakers", "fingerprint")} for s in stores
    ]
    own += [{"name": s.name, "licence": s.licence, "fingerprint": s.commit} for s in streams]
    fingerprints = {corpus["fingerprint"] for corpus in own}
    about = {
        "hvisk": __version__,
        "language": recipe.language,
        "base": recipe.base,
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "recipe": recipe.plain(),
        "corpora": own,
        # A resumed model says that it has learnt from the run's own corpora already.
        "base_corpora": [corpus for corpus in model.corpora if corpus.get("fingerprint") not in fingerprints],
        **({"trimmed_from": model.trimmed_from} if model.trimmed_from else {}),
    }
    return about | {"licence": dataclasses.asdict(licences.flow_down(licences.learnt_from(about)))}


def publish(best: Path, model: Path) -> None:
    """Copy the best checkpoint, without the training state, to its final place."""
    with files.atomic_directory(model) as temporary:
        for file in best.iterdir():
            if file.name != "state.pt":
                shutil.copyfile(file, temporary / file.name)
