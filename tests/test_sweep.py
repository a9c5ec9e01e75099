"""Short runs over values of a recipe's keys."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from hvisk.errors import HviskError, RecipeError
from hvisk.report import swept
from hvisk.train import loop, sweep
from hvisk.train.recipe import Recipe
from test_loop import corpora, one_thread, recipe_for  # noqa: F401 (two are fixtures)


@pytest.fixture
def written(tmp_path: Path, corpora: Path) -> Path:  # noqa: F811
    """The small recipe as a file."""
    recipe = recipe_for(tmp_path / "run", corpora, steps=1, validation_clips=2)
    lines = (f"{key} = {json.dumps(value)}" for key, value in recipe.plain().items())
    (tmp_path / "recipe.toml").write_text("\n".join(lines), "utf-8")
    return tmp_path / "recipe.toml"


def test_values_are_parted_at_commas_alone() -> None:
    assert sweep.parts("1e-4, 2e-4") == ["1e-4", "2e-4"]
    assert sweep.parts('["a", "b"],["c"]') == ['["a", "b"]', '["c"]']
    assert sweep.parts('"a,b",c') == ['"a,b"', "c"]


def test_every_combination_is_a_run_of_its_own(written: Path, tmp_path: Path) -> None:
    runs = sweep.plan(written, ("learning_rate=1e-3,2e-3", "ema=0,0.9", "steps=2"))
    assert [(run.recipe.learning_rate, run.recipe.ema) for run in runs] == [
        (1e-3, 0),
        (1e-3, 0.9),
        (2e-3, 0),
        (2e-3, 0.9),
    ]
    assert {run.recipe.steps for run in runs} == {2}
    assert Path(runs[1].recipe.out) == tmp_path / "run/sweep/learning_rate=1e-3,ema=0.9"
    assert runs[1].values == {"learning_rate": "1e-3", "ema": "0.9"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("learning_rate",), "key=value,value"),
        (("learning_rate=1e-3",), "several values"),
        (("lerning_rate=1,2",), "Did you mean 'learning_rate'"),
        (("learning_rate=1e-3,fast",), "accepted is a number"),
        (("learning_rate=1e-3,1e-3",), "Give each value once"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(
    written: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        sweep.plan(written, settings)


def test_a_sweep_goes_on_where_it_stopped_and_draws_its_page(written: Path, tmp_path: Path) -> None:
    runs = sweep.plan(written, ("learning_rate=1e-3,5e-3,2e-3",))
    told: list[str] = []
    quiet = Console(quiet=True)

    def train(recipe: Recipe) -> loop.Outcome:
        told.append(Path(recipe.out).name)
        if len(told) == 3:
            raise KeyboardInterrupt
        if recipe.learning_rate == 5e-3:
            raise HviskError("The loss was not finite")
        return loop.train(recipe, quiet)

    with pytest.raises(KeyboardInterrupt):
        sweep.sweep(runs, train)
    kept = json.loads((tmp_path / "run/sweep/sweep.json").read_text())["runs"]
    assert [row["name"] for row in kept] == [run.name for run in runs[:2]]
    assert "not finite" in kept[1]["error"]
    first = (Path(runs[0].recipe.out) / "log.jsonl").read_bytes()
    rows = sweep.sweep(runs, train)
    assert (Path(runs[0].recipe.out) / "log.jsonl").read_bytes() == first
    assert [row["finished"] for row in rows] == [True, False, True]
    best = sweep.best(rows)
    assert best is not None
    assert best["after"]["cer"] == min(row["after"]["cer"] for row in rows if row["finished"])
    page = swept.render(rows, best["name"])
    assert page.count("<svg") == 1 + len([row for row in rows if row["log"]])
    assert all(value in page for value in ("1e-3", "2e-3", "not finite", "best"))


def test_an_interrupted_run_ends_the_sweep(written: Path) -> None:
    runs = sweep.plan(written, ("learning_rate=1e-3,2e-3",))
    score: Any = SimpleNamespace(to_dict=lambda: {"wer": 1.0, "cer": 0.5, "wer_interval": None})
    left = SimpleNamespace(
        refused="", finished=False, state=SimpleNamespace(step=3, seconds=1.0), before=score, after=score
    )
    rows = sweep.sweep(runs, lambda recipe: left)
    assert len(rows) == 1
    assert sweep.best(rows) is None


def test_a_page_over_two_keys_has_a_line_for_each_value_of_the_second() -> None:
    def row(rate: str, ema: str, wer: float) -> dict[str, Any]:
        after = {"wer": wer, "cer": wer / 3, "wer_interval": [wer - 0.1, wer + 0.1]}
        values = {"learning_rate": rate, "ema": ema}
        return {"name": rate + ema, "values": values, "error": None, "finished": True, "after": after, "log": []} | {
            "step": 5,
            "minutes": 0.1,
        }

    page = swept.render([row("1e-3", "0", 0.5), row("2e-3", "0", 0.4), row("1e-3", "<b>", 0.3)], None)
    assert page.count("polyline") == 2
    assert "ema = 0" in page
    assert "<b>" not in page


def test_a_failing_part_is_no_reason_to_lose_the_others(written: Path) -> None:
    def train(recipe: Recipe) -> Any:
        raise HviskError("too large")

    rows = sweep.sweep(sweep.plan(written, ("width=64,128",)), train)
    assert [row["error"] for row in rows] == ["too large"] * 2
