"""What is told before torch is loaded, and that it is."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from hvisk import files
from hvisk.errors import CorpusError, RecipeError
from hvisk.train import preflight
from hvisk.train.preflight import Shape
from hvisk.train.recipe import Recipe
from test_loop import corpora  # noqa: F401 (a fixture)

TINY = Shape(width=384, encoder_layers=4, decoder_layers=4, vocabulary=51865)


def recipe(corpora: Path, **changes: object) -> Recipe:  # noqa: F811
    made = Recipe("run", (str(corpora / "train"),), str(corpora / "validation"), steps=1)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_a_good_recipe_passes(corpora: Path) -> None:  # noqa: F811
    preflight.check(recipe(corpora, watch=(str(corpora / "validation"),)))


def test_missing_corpora_are_all_named_with_the_likely_ones(corpora: Path) -> None:  # noqa: F811
    wrong = recipe(corpora, train=(str(corpora / "trian"), str(corpora / "other")), validation=str(corpora / "nowhere"))
    with pytest.raises(CorpusError) as told:
        preflight.check(wrong)
    assert f"train: {corpora / 'trian'} (did you mean {corpora / 'train'}?)" in str(told.value)
    assert f"validation: {corpora / 'nowhere'}" in str(told.value)
    assert "hvisk prepare" in str(told.value)


@pytest.mark.parametrize("key", ["validation", "watch"])
def test_what_is_measured_must_not_be_trained_on(corpora: Path, tmp_path: Path, key: str) -> None:  # noqa: F811
    (tmp_path / "again").symlink_to(corpora / "train")
    again = str(tmp_path / "again")
    changes = {key: (again,) if key == "watch" else again}
    with pytest.raises(RecipeError, match=rf"{key} = .*again shares \d+ clips with train"):
        preflight.check(recipe(corpora, **changes))


def test_a_step_that_does_not_fit_names_the_seconds_that_do(corpora: Path) -> None:  # noqa: F811
    made = recipe(corpora, batch_seconds=1000.0)
    preflight.fits(made, TINY, 64e9, 0)
    with pytest.raises(RecipeError, match=r"batch_seconds = 1000 needs about \d.*Set batch_seconds=\d+0\.") as told:
        preflight.fits(made, TINY, 4e9, 1)
    better = float(str(told.value).rpartition("=")[2].rstrip("."))
    preflight.fits(dataclasses.replace(made, batch_seconds=better), TINY, 4e9, 1)
    preflight.fits(dataclasses.replace(made, batch_seconds=2 * better), TINY, 4e9, 2)  # each GPU has its share
    with pytest.raises(RecipeError, match="width below 192"):
        preflight.fits(made, TINY, 1e8, 0)


def test_the_shape_of_a_base_is_read_where_it_lies_here(corpora: Path, random_whisper: Path) -> None:  # noqa: F811
    config = files.read_json(random_whisper / "config.json")
    assert preflight.shape(recipe(corpora, base=str(random_whisper))) == Shape(64, 2, 2, config["vocab_size"])
    assert preflight.shape(recipe(corpora, base="openai/whisper-tiny")) is None  # nothing is fetched to know it


def test_a_wrong_recipe_is_refused_without_torch(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "recipe.toml").write_text(
        f'out = "run"\ntrain = "{corpora / "train"}"\nvalidation = "gone"\nsteps = 1\n'
    )
    script = (
        "import sys\nfrom hvisk.cli import main\ntry:\n    main()\n"
        "finally:\n    print([name for name in ('torch', 'transformers', 'accelerate') if name in sys.modules])"
    )
    command = [sys.executable, "-c", script, "train", "recipe.toml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "validation: gone" in done.stderr
    assert done.stdout == "[]\n"
