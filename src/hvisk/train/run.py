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
from hvisk.style import PROMPTS
from hvisk.train import model as whisper
from hvisk.train import watch
from hvisk.train.blend import Ending
from hvisk.train.model import Whisper
from hvisk.train.recipe import Recipe
from hvisk.train.streaming import Stream
from hvisk.train.watch import Watched

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
        "forgetting_margin",
        "blend",
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
    if recipe.base and (run / "model").resolve() in {Path(recipe.base, part).resolve() for part in ("", "model")}:
        raise RecipeError(
            f"{run}/model is what training starts from, and is never written over. Set another out=DIRECTORY."
        )
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


def padded(base: Path | None) -> bool:
    """Whether a base knows windows of 30 s alone, as stock Whisper does, by its hvisk.json or its lack of one."""
    about = base / "hvisk.json" if base else None
    return about is not None and not (about.exists() and files.read_json(about).get("own_length"))


def describe(recipe: Recipe, stores: Sequence[Store], streams: Sequence[Stream], model: Whisper) -> dict[str, Any]:
    """What goes into hvisk.json beside the weights.

    base_corpora: what the base had learnt from; its licences hold for what is made of it too. licence: what all that
    together lets the model be called. styles: those that were taught, with the prompts that ask for them.
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
        **({"styles": PROMPTS} if recipe.plain_share else {}),
        **({"trimmed_from": model.trimmed_from} if model.trimmed_from else {}),
    }
    return about | {"licence": dataclasses.asdict(licences.flow_down(licences.learnt_from(about)))}


def told(recipe: Recipe, best: Path, ending: Ending, corpora: Sequence[Watched]) -> dict[str, Any]:
    """What a run's ending.json says: what came out, whether it was published, and what was heard before and after.

    risen: by how many points the WER of a corpus rose, and at_most, at 95 %; None for the validation clips.
    """
    run, step = Path(recipe.out), int(best.name)
    return {
        "step": step,
        "share": ending.share,
        "forgetting_margin": recipe.forgetting_margin,
        "published": ending.holds,
        "corpora": [
            {
                "name": watched.name,
                "path": watched.store.path.as_posix(),
                "before": watch.path(run, 0, watched).relative_to(run).as_posix(),
                "after": watch.path(run, step, watched, ending.share).relative_to(run).as_posix(),
                "risen": rise.points if rise else None,
                "at_most": rise.at_most if rise else None,
            }
            for watched in corpora
            if (rise := ending.risen.get(watched.name)) or not watched.name
        ],
    }


def publish(best: Path, model: Path, ending: Ending, about: dict[str, Any]) -> None:
    """Put what a run ends with into its place: the best checkpoint without the training state, or its blend with the base."""
    with files.atomic_directory(model) as temporary:
        if ending.model and ending.score:
            told = {"step": int(best.name), "share": ending.share, "validation": ending.score.to_dict()}
            whisper.save(ending.model, temporary, {**about, **told})
            return
        for file in best.iterdir():
            if file.name != "state.pt":
                shutil.copyfile(file, temporary / file.name)
