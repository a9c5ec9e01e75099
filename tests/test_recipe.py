"""Recipes: what is read, what is refused, and whether the refusal says what to write instead."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from hvisk.errors import RecipeError
from hvisk.train import recipe as recipes
from hvisk.train.recipe import Recipe

NEEDED = {"out": "runs/x", "train": ["corpus/train"], "validation": "corpus/validation", "steps": 10}
SHIPPED = sorted((Path(recipes.__file__).parents[1] / "recipes").glob("*.toml"))


def resolve(**changes: object) -> Recipe:
    return recipes.resolve({**NEEDED, **changes}, "r.toml")


def refusal(**changes: object) -> str:
    with pytest.raises(RecipeError) as caught:
        resolve(**changes)
    return str(caught.value)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "r.toml"
    path.write_text(
        'out = "runs/x"  # a comment\ntrain = ["a", "b"]\nvalidation = "v"\nsteps = 10\nlearning_rate = 1e-3\n', "utf-8"
    )
    return path


def test_a_file_becomes_a_frozen_typed_recipe(written: Path) -> None:
    recipe = recipes.load(written)
    assert recipe == Recipe(out="runs/x", train=("a", "b"), validation="v", steps=10, learning_rate=1e-3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.steps = 11  # type: ignore[misc]


def test_the_saved_copy_gives_the_same_recipe(written: Path) -> None:
    recipe = recipes.load(written)
    saved = json.loads(json.dumps(recipe.plain()))
    assert recipes.resolve(saved, "recipe.json") == recipe


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("steps=20", "steps", 20),
        ("learning_rate=2e-4", "learning_rate", 2e-4),
        ("learning_rate=1", "learning_rate", 1.0),
        ('train=["c", "d"]', "train", ("c", "d")),
        ("train=c", "train", ("c",)),
        ("out=runs/other", "out", "runs/other"),
        ('out="runs/other"', "out", "runs/other"),
        ("precision=fp16", "precision", "fp16"),
        ("base=", "base", ""),
        ("base=openai/whisper-tiny", "base", "openai/whisper-tiny"),
        ("base=odd=name", "base", "odd=name"),
        (" steps = 20 ", "steps", 20),
    ],
)
def test_an_override_is_toml_and_a_bare_word_is_a_string(written: Path, override: str, key: str, value: object) -> None:
    changed = recipes.load(written, (override,))
    assert getattr(changed, key) == value
    assert type(getattr(changed, key)) is type(value)
    assert dataclasses.replace(changed, **{key: getattr(recipes.load(written), key)}) == recipes.load(written)


def test_the_last_override_counts(written: Path) -> None:
    assert recipes.load(written, ("steps=20", "minutes=5", "steps=30")).steps == 30


def test_an_override_without_a_value_shows_how_to_write_one(written: Path) -> None:
    with pytest.raises(RecipeError, match="--set steps: write it as key=value"):
        recipes.load(written, ("steps",))


def test_an_override_is_checked_like_the_file(written: Path) -> None:
    with pytest.raises(RecipeError, match=r"r\.toml: unknown key 'stpes'\. Did you mean 'steps'\?"):
        recipes.load(written, ("stpes=20",))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("learning_rates", "learning_rate"), ("batch_second", "batch_seconds"), ("vallidation", "validation")],
)
def test_an_unknown_key_is_met_with_the_nearest_one(wrong: str, right: str) -> None:
    assert f"r.toml: unknown key '{wrong}'. Did you mean '{right}'?" in refusal(**{wrong: 1})


def test_a_key_near_to_nothing_is_met_with_all_of_them() -> None:
    message = refusal(xyzzy=1)
    assert all(field.name in message for field in dataclasses.fields(Recipe))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "ten", "steps = 'ten' is a string; accepted is a whole number."),
        ("steps", 1.5, "steps = 1.5 is a number; accepted is a whole number."),
        ("steps", True, "steps = True is a truth value; accepted is a whole number."),
        ("learning_rate", True, "learning_rate = True is a truth value; accepted is a number."),
        ("out", 5, "out = 5 is a whole number; accepted is a string."),
        ("validation", ["v"], "validation = ['v'] is a list; accepted is a string."),
        ("train", [1], "train = 1 is a whole number; accepted is a string."),
        ("train", {"a": 1}, "train = {'a': 1} is a dict; accepted is a string."),
        ("precision", "int8", "precision = 'int8'; accepted are 'auto', 'fp32', 'bf16', 'fp16'."),
        ("precision", ["fp16"], "precision = ['fp16']; accepted are"),
    ],
)
def test_a_wrong_type_is_named_with_what_is_accepted(key: str, value: object, message: str) -> None:
    assert f"r.toml: {message}" in refusal(**{key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "needs a budget: set steps, epochs or minutes"),
        ({"steps": -5, "minutes": 3}, "steps = -5: it must not be negative"),
        ({"train": []}, "train is empty"),
        ({"learning_rate": 0}, "learning_rate = 0.0: it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"clip_norm": 0}, "clip_norm = 0.0"),
        ({"batch_seconds": 29}, "batch_seconds = 29.0: at least 30"),
        ({"heads": 0}, "heads = 0: it must be at least 1"),
        ({"width": 100, "heads": 3}, "width = 100 is not a multiple of heads = 3"),
        ({"mels": 64}, "Whisper has 80 or 128"),
        ({"padded_share": 1.5}, "padded_share = 1.5: it must be between 0 and 1"),
        ({"dropout": -0.1}, "dropout = -0.1"),
        ({"margin": -1}, "margin = -1: it must not be negative"),
        ({"time_masks": -1}, "time_masks = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"keep_checkpoints": 0}, "keep_checkpoints = 0: it must be at least 1"),
        ({"validation_clips": 0}, "validation_clips = 0"),
        ({"train": ["a", "v"], "validation": "v"}, "v is both training and validation corpus"),
    ],
)
def test_an_impossible_value_is_refused_with_its_file(changes: dict[str, object], message: str) -> None:
    told = refusal(**changes)
    assert told.startswith("r.toml: ")
    assert message in told


def test_missing_keys_are_listed() -> None:
    with pytest.raises(RecipeError, match=r"r\.toml: missing out, train, validation\."):
        recipes.resolve({"steps": 1}, "r.toml")


def test_either_budget_will_do() -> None:
    assert resolve(steps=0, minutes=0.5).minutes == 0.5
    assert resolve(steps=1, minutes=0).steps == 1


def test_no_file_and_no_toml_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no recipe at"):
        recipes.load(tmp_path / "none.toml")
    for content in (b"steps = ", b"out = '\xff'"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(RecipeError, match="is not valid TOML"):
            recipes.load(tmp_path / "bad.toml")


def test_a_recipe_is_found_by_path_and_by_name(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipes.find(str(written)) == written
    assert [recipes.find(path.stem) for path in SHIPPED] == SHIPPED
    monkeypatch.chdir(written.parent)
    Path("bare").write_text("", "utf-8")
    assert recipes.find("bare") == Path("bare")
    with pytest.raises(RecipeError, match=f"no recipe 'nonesuch'. Accepted: a TOML file, or .*{SHIPPED[0].stem}"):
        recipes.find("nonesuch")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_recipe_that_hvisk_brings_is_whole(path: Path) -> None:
    given = tomllib.loads(path.read_text("utf-8"))
    settings = tuple(f"{key}=x/{key}" for key in ("out", "train", "validation") if key not in given)
    assert recipes.load(path, settings).out
