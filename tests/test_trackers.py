"""Trackers: asked for by name, refused clearly where they are not installed, and given what the log has."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hvisk.errors import MissingExtra
from hvisk.train import trackers
from hvisk.train.recipe import Recipe

LINE: dict[str, Any] = {
    **{"step": 3, "loss": None, "minutes": 0.5, "skipped": 0, "score": {"wer": 0.5, "cer": 0.25}},
    "watched": {"other": {"wer": float("nan"), "cer": 0.75}},
}


def recipe(tmp_path: Path, tracker: Any) -> Recipe:
    return Recipe(str(tmp_path), ("t",), "v", steps=1, tracker=tracker)


def test_a_tracker_draws_the_finite_numbers_of_a_line() -> None:
    assert trackers.numbers(LINE) == {
        **{"train/minutes": 0.5, "train/skipped": 0, "validation/wer": 0.5, "validation/cer": 0.25},
        "other/cer": 0.75,
    }


def test_a_tracker_that_is_not_installed_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    trackers.check(recipe(tmp_path, ""))
    with pytest.raises(MissingExtra, match=r"tracker = 'wandb'.*pip install wandb.*log\.jsonl"):
        trackers.check(recipe(tmp_path, "wandb"))


def test_without_a_tracker_nothing_is_made(tmp_path: Path) -> None:
    for wanted, leads in (("", True), ("tensorboard", False)):
        with trackers.tracking(recipe(tmp_path, wanted), leads) as track:
            track(LINE)
    assert not list(tmp_path.iterdir())


def test_tensorboard_shows_what_was_measured(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with trackers.tracking(recipe(tmp_path, "tensorboard"), True) as track:
        track(LINE)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    [measured] = found.Scalars("validation/cer")
    assert (measured.step, measured.value) == (3, 0.25)


def test_trackio_gets_the_recipe_and_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through accelerate's own tracker; the package itself is a stand-in, which brings a web server otherwise."""
    given: list[Any] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            given.append((step, values))

        def finish(self) -> None:
            given.append("finished")

    def init(**settings: Any) -> Run:
        given.append(settings)
        return Run()

    package = ModuleType("trackio")
    package.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", package)
    with trackers.tracking(recipe(tmp_path, "trackio"), True) as track:
        track(LINE)
    settings, logged, end = given
    assert (settings["project"], settings["name"], settings["config"]["steps"]) == ("hvisk", tmp_path.name, 1)
    assert logged == (3, trackers.numbers(LINE))
    assert end == "finished"
