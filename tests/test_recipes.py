"""The recipes that hvisk brings: each can be run as it stands, and its head says what is true of it."""

import re
from pathlib import Path

import pytest

from hvisk import licences
from hvisk.corpora import budget, sources
from hvisk.train import preflight
from hvisk.train import recipe as recipes
from hvisk.train.plan import repeats
from hvisk.train.preflight import Shape
from hvisk.train.recipe import Recipe

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "src" / "hvisk" / "recipes").glob("*.toml"))
DANISH = [path for path in FILES if path.stem.startswith("danish")]
T4 = 15e9  # bytes, of the 16 that it is sold with
SPARE = 0.15  # for the silence around clips, which comes on top of batch_seconds, and for what CUDA takes
SHAPES = {"openai/whisper-tiny": (384, 4, 4), "openai/whisper-base": (512, 6, 6)}  # their published config.json


def head(path: Path) -> str:
    """The comment that a recipe begins with, in one line a paragraph."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def said(path: Path, word: str) -> str:
    """What a recipe's head says after "Planned:", "Hardware:" or "Licence:"."""
    return head(path).split(f"{word}:")[1].split("Hardware:")[0].split("Licence:")[0].strip()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_by_its_name_and_its_run_has_a_place_of_its_own(path: Path) -> None:
    recipe = recipes.load(recipes.find(path.stem))
    assert [p.stem for p in FILES if recipes.load(p).out == recipe.out] == [path.stem]


def test_those_that_are_asked_for_are_there() -> None:
    assert {path.stem for path in DANISH} == {"danish-tiny", "danish-tiny-coral", "danish-tiny-cc0", "danish-base"}


@pytest.mark.parametrize("path", DANISH, ids=lambda path: path.stem)
def test_its_corpora_are_those_that_hvisk_prepares(path: Path) -> None:
    recipe = recipes.load(path)
    for place in (*recipe.train, recipe.validation, *recipe.watch):
        folder, name, split = Path(place).parts
        assert folder == "corpora"
        source = sources.find(name)
        assert split in source.splits, f"{name} has no {split}"
    assert all(place.endswith("/train") for place in recipe.train)
    assert not any("test" in place for place in (recipe.validation, *recipe.watch))


@pytest.mark.parametrize("path", DANISH, ids=lambda path: path.stem)
def test_its_head_names_the_licence_that_follows_from_its_corpora(path: Path) -> None:
    recipe = recipes.load(path)
    corpora = [{"name": place, "licence": sources.find(Path(place).parts[1]).licence} for place in recipe.train]
    found = licences.flow_down(licences.learnt_from({"corpora": corpora, "base": recipe.base}))
    told = said(path, "Licence")
    if found.id == "other":
        assert told.startswith("other")
        for name in ("OpenRAIL", "Danish Parliament's terms", "CC BY 4.0"):
            assert name in told
            assert name in " ".join(found.sentences)
    else:
        assert told.startswith(found.name)
    assert found.id == {"danish-tiny-coral": "openrail", "danish-tiny-cc0": "apache-2.0"}.get(path.stem, "other")


@pytest.mark.parametrize("path", DANISH, ids=lambda path: path.stem)
def test_its_head_names_its_hours(path: Path) -> None:
    assert said(path, "Planned").startswith(f"{recipes.load(path).minutes / 60:g} hours of training")


@pytest.mark.parametrize("path", DANISH, ids=lambda path: path.stem)
def test_a_step_fits_into_each_of_two_t4_and_as_its_head_says_into_one(path: Path) -> None:
    recipe = recipes.load(path)

    def needs(seconds: float) -> float:
        return preflight.memory(recipe, Shape(*SHAPES[recipe.base], recipe.vocabulary), gpu=True, seconds=seconds)

    (alone,) = re.findall(r"--set batch_seconds=(\d+)", said(path, "Hardware"))
    assert needs(recipe.batch_seconds / 2) < (1 - SPARE) * T4
    assert needs(float(alone)) < (1 - SPARE) * T4
    assert needs(2 * recipe.batch_seconds) > T4  # the bound is one


@pytest.mark.parametrize("path", [p for p in DANISH if p.stem != "danish-tiny"], ids=lambda path: path.stem)
def test_what_is_not_explained_is_as_in_danish_tiny(path: Path) -> None:
    tiny, recipe = recipes.load(ROOT / "src/hvisk/recipes/danish-tiny.toml"), recipes.load(path)
    own = {
        "danish-tiny-coral": {"plain_share"},
        "danish-tiny-cc0": set[str](),
        "danish-base": {"base", "batch_seconds", "learning_rate"},
    }[path.stem]
    differ = {key for key, value in recipe.plain().items() if value != tiny.plain()[key]}
    assert differ <= {"out", "train", "validation", "watch", "minutes"} | own


def test_the_small_corpora_are_heard_as_often_as_danish_tiny_says() -> None:
    recipe: Recipe = recipes.load(ROOT / "src/hvisk/recipes/danish-tiny.toml")
    limits = {"ftspeech": 1200.0, "nst": 200.0, "nota": 200.0}  # the notebooks'
    names = [Path(place).parts[1] for place in recipe.train]
    hours = [limits.get(name) or dict(sources.find(name).hours)["train"] for name in names]
    often = dict(zip(names, repeats(hours, recipe), strict=True))
    assert 2 <= often["fleurs"] <= 3
    assert 2 <= often["common-voice"] <= 3
    assert 0.75 <= often["ftspeech"] < 1


def test_the_arithmetic_of_the_walk_through() -> None:
    text = (ROOT / "docs" / "train-for-free.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,.]+) \| ([\d,.]+) \| ([\d,.]+) \|", text, re.MULTILINE)
    assert {row[0] for row in rows} == {source.name for source in sources.known()}
    for name, *cells in rows:
        hours, flac, opus = (float(cell.replace(",", "")) for cell in cells)
        known = dict(sources.find(name).hours).get("train")
        assert known is None or known == hours, name
        for gigabytes, codec in ((flac, "flac"), (opus, "opus")):
            expected = hours * 3600 * budget.BYTES_A_SECOND[codec] / budget.GIGABYTE
            assert abs(gigabytes - expected) <= 0.051, (name, codec, expected)
