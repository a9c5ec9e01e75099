"""How much of a run's budget is used, and what learning rate that means."""

from hvisk.train.checkpoint import State
from hvisk.train.recipe import Recipe


def share_used(recipe: Recipe, state: State, corpus_seconds: float = 0.0) -> float:
    """Return the largest share of the budgets that is used: 0 at the start, at least 1 at the end.

    corpus_seconds: of audio in the training corpora; an epoch is as much audio learnt from.
    """
    used = (
        state.step / recipe.steps if recipe.steps else 0.0,
        state.seconds / (60 * recipe.minutes) if recipe.minutes else 0.0,
        state.audio_seconds / (recipe.epochs * corpus_seconds) if recipe.epochs and corpus_seconds else 0.0,
    )
    return max(used)


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up over the first `warmup` of the budget, then linear decay to zero at its end."""
    if share < recipe.warmup:
        return recipe.learning_rate * min(1.0, max(share, 1e-3) / recipe.warmup)
    return recipe.learning_rate * max(0.0, 1 - share) / (1 - recipe.warmup)
