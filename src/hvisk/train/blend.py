"""The end of a run: which model comes out of it, and whether one may.

The weights part of the way from a base to what training made of it know most of what both know: Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv 2109.01903. So a model that may have forgotten other voices over a
new one is drawn back towards its base, until it is sure, at 95 %, that no corpus under watch has lost more than
`forgetting_margin`. The figure alone would flatter: where 100 clips told of 0.3 points, other voices had lost 3.0 (LOG.md).
Where the last share tried has lost more even by the figure alone, nothing is published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from hvisk import metrics
from hvisk.train import model as whisper
from hvisk.train import watch
from hvisk.train.checkpoint import State
from hvisk.train.model import Whisper
from hvisk.train.processes import Crew
from hvisk.train.recipe import Recipe
from hvisk.train.watch import Rise, Watched


@dataclass(frozen=True)
class Ending:
    """share: of the way from the base to the best checkpoint. model, score: at that share, None at 1, the checkpoint itself.

    risen: by how much each corpus under watch is worse than at step 0. holds: whether none is above the margin.
    """

    share: float
    model: Whisper | None
    score: metrics.Score | None
    risen: dict[str, Rise]
    holds: bool


def end(
    recipe: Recipe, best: Path, base: Path | None, corpora: Sequence[Watched], console: Console, crew: Crew
) -> Ending:
    """Return the largest share, of 1 and the recipe's `blend`, at which surely nothing under watch is forgotten; else the last.

    best: the checkpoint, measured before. base: the directory of what training began with; None for random weights.
    """
    run, step = Path(recipe.out), int(best.name)
    shares = [1.0, *(recipe.blend if base else ())]
    while True:
        share, model, score = shares.pop(0), None, None
        if share < 1 and base:
            model = between(base, best, share)
            score = watch.look(model, corpora, run, State(step=step), console, crew, share=share).score
        risen = watch.risen(run, corpora, step, share) if crew.leads else {}
        points = max((rise.points for rise in risen.values()), default=0.0)
        at_most = max((rise.at_most for rise in risen.values()), default=0.0)
        points, at_most = crew.total(points * crew.leads, at_most * crew.leads)
        if at_most <= recipe.forgetting_margin or not shares:
            return Ending(share, model, score, risen, points <= recipe.forgetting_margin)


def between(base: Path, trained: Path, share: float) -> Whisper:
    """Return the model whose weights are `share` of the way from the base's to the trained one's."""
    start, model = whisper.load(base), whisper.load(trained)
    with torch.no_grad():
        for old, new in zip(start.net.parameters(), model.net.parameters(), strict=True):
            new.copy_(torch.lerp(old, new, share))
    return model


def refusal(recipe: Recipe, best: Path, ending: Ending) -> str:
    """What to tell somebody whose model is not published: what got worse, what is kept where, and how to insist."""
    worst = max(ending.risen, key=lambda name: ending.risen[name].points)
    by = ending.risen[worst].points
    tried = f", at {100 * ending.share:g} % of the way from its base too" * (ending.share < 1)
    return (
        f"On {worst} the WER is {by:.1f} points higher than before training{tried}; forgetting_margin is "
        f"{recipe.forgetting_margin:g}. No model was published: what was in {recipe.out}/model is as it was, and what was "
        f"trained is in {best}. Mix in other people's speech (--general CORPUS), train with a lower learning_rate, or insist: "
        f"the same command with --set forgetting_margin={by + 0.1:.1f}."
    )
