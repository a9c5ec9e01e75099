"""Ways into the training loop beside the plain one: a smaller vocabulary, a finishing stage, a stream; and what is refused."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hub_server import Hub, clip, parquet, serving, sign_out_at
from hvisk.errors import RecipeError
from hvisk.export import trim
from hvisk.files import read_json
from hvisk.tokens import Tokens
from hvisk.train import model as whisper
from hvisk.train import streaming
from hvisk.train.session import Session
from test_loop import corpora, one_thread, recipe_for, same_weights, train, weights  # noqa: F401

REPO = "danmark/tale"


@pytest.fixture(scope="module")
def base(random_whisper: Path) -> Path:
    return random_whisper


def interrupted_at(step: int, recipe: object, session: Session | None = None) -> object:
    """Train until `step` has been measured, then as if Ctrl-C had been pressed; then to the end."""
    import signal

    def press(text: str) -> None:
        if text.startswith(f"step {step:>6}"):
            signal.raise_signal(signal.SIGINT)

    first, _ = train(recipe, heard=press)  # type: ignore[arg-type]
    assert not first.finished
    return train(recipe)[0]  # type: ignore[arg-type]


def test_a_smaller_vocabulary_is_learnt_with_and_can_be_put_back(
    corpora: Path,  # noqa: F811
    base: Path,
    tmp_path: Path,
) -> None:
    size = Tokens.load(base).size - 10
    recipe = recipe_for(tmp_path / "run", corpora, base=str(base), vocabulary=size, steps=3)
    outcome, _ = train(recipe)
    about = read_json(outcome.model / "hvisk.json")
    assert whisper.load(outcome.model).tokens.size == size
    assert about["trimmed_from"]["tokens"] == size + 10
    back = tmp_path / "back"
    trim.untrim(outcome.model, base, back)
    kept = weights(outcome.model)["model.decoder.embed_tokens.weight"]
    whole = weights(back)["model.decoder.embed_tokens.weight"]
    assert len(whole) == size + 10
    known = {tuple(row) for row in whole.tolist()}
    assert all(tuple(row) in known for row in kept.tolist())
    halves = dataclasses.replace(recipe, out=str(tmp_path / "halves"), evaluate_every=1)
    whole_run = dataclasses.replace(halves, out=str(tmp_path / "whole"))
    assert same_weights(interrupted_at(1, halves).model, train(whole_run)[0].model)  # type: ignore[attr-defined]


def test_the_finishing_stage_learns_from_the_frozen_base_also_after_a_resume(
    corpora: Path,  # noqa: F811
    base: Path,
    tmp_path: Path,
) -> None:
    settings = {
        **{"base": str(base), "finish": "own-length", "learning_rate": 1e-4, "ctc_weight": 0.0, "dropout": 0.0},
        **{"activation_dropout": 0.0, "padded_share": 0.0, "time_masks": 0, "frequency_masks": 0, "evaluate_every": 2},
        **{"ema": 0.0, "steps": 4},
    }
    whole, _ = train(recipe_for(tmp_path / "whole", corpora, **settings))
    before, after = weights(base), weights(whole.model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    resumed = interrupted_at(2, recipe_for(tmp_path / "halves", corpora, **settings))
    assert same_weights(whole.model, resumed.model)  # type: ignore[attr-defined]


def test_the_clips_of_a_test_are_refused_wherever_they_lie(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(corpora / "train", tmp_path / "mine")
    shutil.copytree(corpora / "other", tmp_path / "test")  # beside it, and so never to be learnt from
    leaky = recipe_for(tmp_path / "run", corpora, train=(str(tmp_path / "mine"), str(corpora / "other")), steps=1)
    with pytest.raises(RecipeError, match=r"4 .*test"):
        train(leaky)
    assert not (tmp_path / "run" / "recipe.json").exists()
    forced = dataclasses.replace(leaky, allow_test_clips=(str(tmp_path / "test"),))
    outcome, told = train(forced)
    assert outcome.finished
    assert "test" in told


def test_a_model_says_what_it_may_be_called(corpora: Path, base: Path, tmp_path: Path) -> None:  # noqa: F811
    outcome, _ = train(recipe_for(tmp_path / "run", corpora, base=str(base), steps=1))
    licence = read_json(outcome.model / "hvisk.json")["licence"]
    assert licence["id"] == "unknown"  # of the base nothing is known
    assert any(str(base) in sentence for sentence in licence["sentences"])


# --- straight from the Hub ------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with 40 clips in 5 files; a chunk is two row groups."""
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 8.0)
    monkeypatch.setattr(streaming, "BATCHES_A_CHUNK", 0)
    rows = [
        {"text": f"ord {n}", "id_speaker": f"t{n % 3}", "audio": {"bytes": clip(n, 1.0), "path": f"{n}.wav"}}
        for n in range(40)
    ]
    with serving(tmp_path / "hub") as served:
        sign_out_at(served, tmp_path, monkeypatch)
        files = {f"data/train-0000{n}-of-00005.parquet": parquet(rows[8 * n : 8 * n + 8]) for n in range(5)}
        served.publish(REPO, files)
        yield served


def test_a_stream_is_learnt_from_and_resumed_like_a_corpus(
    hub: Hub,
    corpora: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    settings = {"train": (f"stream:hub:{REPO}",), "steps": 6, "evaluate_every": 3}
    whole, told = train(recipe_for(tmp_path / "whole", corpora, **settings))
    assert f"hub:{REPO} as it comes" in told
    about = read_json(whole.model / "hvisk.json")
    assert [corpus["name"] for corpus in about["corpora"]] == [f"hub:{REPO}"]
    assert about["corpora"][0]["fingerprint"] == hub.branches[REPO, "main"]
    resumed = interrupted_at(3, recipe_for(tmp_path / "halves", corpora, **settings))
    assert same_weights(whole.model, resumed.model)  # type: ignore[attr-defined]
    state = json.loads((tmp_path / "halves" / streaming.NAME).read_text())
    assert state == {f"hub:{REPO}": {"branch": "main", "commit": hub.branches[REPO, "main"]}}
