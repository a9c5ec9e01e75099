"""Short runs of one recipe with other values of some of its keys, to see which are worth a long one."""

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import files
from hvisk.errors import HviskError, RecipeError
from hvisk.train import recipe as recipes
from hvisk.train.recipe import Recipe

NAME = re.compile(r"[^\w.+=,-]+")


@dataclass(frozen=True)
class Run:
    """One run of a sweep: the values that make it different, as they were written, and its whole recipe."""

    values: dict[str, str]
    recipe: Recipe

    @property
    def name(self) -> str:
        return Path(self.recipe.out).name


def plan(path: Path, settings: Sequence[str]) -> list[Run]:
    """Return a run for each combination of the values in `settings`, "key=a,b,c", in OUT/sweep/NAME.

    A key with one value is set in all of them. Commas inside brackets or quotes part nothing. RecipeError for a value that a
    recipe does not take, and where no key has several values.
    """
    given: dict[str, list[str]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise RecipeError(
                f"--set {setting}: write it as key=value,value, for example learning_rate=1e-4,2e-4,4e-4."
            )
        given[key.strip()] = parts(text)
    varied = [key for key, values in given.items() if len(values) > 1]
    if not varied:
        raise RecipeError("A sweep needs a key with several values, for example --set learning_rate=1e-4,2e-4,4e-4.")
    runs = []
    for values in itertools.product(*given.values()):
        changes = tuple(f"{key}={value}" for key, value in zip(given, values, strict=True))
        made = recipes.load(path, changes)
        different = {key: value for key, value in zip(given, values, strict=True) if key in varied}
        name = NAME.sub("-", ",".join(f"{key}={value}" for key, value in different.items()))
        runs.append(Run(different, recipes.load(path, (*changes, f'out="{made.out}/sweep/{name}"'))))
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise RecipeError(f"Two runs of the sweep would both be called '{name}'. Give each value once.")
    return runs


def parts(text: str) -> list[str]:
    """Split at the commas that stand in no brackets and no quotes."""
    found, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += (letter in "[{") - (letter in "]}") if not quote else 0
        if letter == "," and not depth and not quote:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def sweep(
    runs: Sequence[Run], train: Callable[[Recipe], Any], on_result: Callable[[dict[str, Any]], None] = lambda row: None
) -> list[dict[str, Any]]:
    """Train one run after the other; return a row for each, and keep them in sweep.json after each.

    train: of `loop`, with the recipe alone. Runs that are finished are only read again. A run that fails, because its
    values are bad ones, is a row with an error; one that is interrupted ends the sweep, to be gone on with.
    """
    out = Path(runs[0].recipe.out).parent
    rows: list[dict[str, Any]] = []
    for run in runs:
        row: dict[str, Any] = {"name": run.name, "values": run.values, "out": run.recipe.out, "error": None}
        try:
            outcome = train(run.recipe)
            if outcome.refused:  # it has forgotten what is watched, and may not win
                raise HviskError(outcome.refused)
            row |= {"finished": outcome.finished, "step": outcome.state.step, "minutes": outcome.state.seconds / 60}
            row |= {"before": outcome.before.to_dict(), "after": outcome.after.to_dict()}
        except HviskError as error:
            row |= {"finished": False, "error": str(error)}
        row["log"] = _log(Path(run.recipe.out))
        rows.append(row)
        files.write_json(out / "sweep.json", {"runs": rows})
        on_result(row)
        if not row["finished"] and not row["error"]:
            break
    return rows


def best(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the finished run with the lowest CER, by which checkpoints are chosen too."""
    measured = [row for row in rows if row["finished"] and row["after"]["cer"] is not None]
    return min(measured, key=lambda row: float(row["after"]["cer"]), default=None)


def _log(run: Path) -> list[dict[str, Any]]:
    path = run / "log.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
