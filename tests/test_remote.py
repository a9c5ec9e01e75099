"""Checkpoints on the Hub: pushed without training waiting for it, and picked up by a machine that has nothing."""

import io
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from rich.console import Console

from hub_server import Fault, sign_out_at
from hub_uploads import Uploads, taking
from hvisk import files
from hvisk.errors import HviskError, RecipeError
from hvisk.train import checkpoint, loop, remote
from hvisk.train.checkpoint import State
from hvisk.train.session import Session
from test_loop import corpora, recipe_for, same_weights, train  # noqa: F401 (corpora is a fixture)

REPO = "danmark/nattog"
# huggingface_hub's own, of how it hands large files to its HTTP client
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    (tmp_path / "hub").mkdir()
    with taking(tmp_path / "hub") as served:
        sign_out_at(served, tmp_path, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_hemmelig")
        monkeypatch.setattr(remote, "RETRY", (0.0,) * 4)
        yield served


def run_with(run: Path, step: int, best: int) -> State:
    """A run directory as far as pushing looks at it."""
    for number in {step, best}:
        (run / f"checkpoints/{number:06d}").mkdir(parents=True, exist_ok=True)
        (run / f"checkpoints/{number:06d}/state.pt").write_text(f"state {number}")
        (run / f"checkpoints/{number:06d}/model.safetensors").write_text(f"model {number}")
    for path in (run / "checkpoints").iterdir():
        if int(path.name) not in (step, best):
            shutil.rmtree(path)
    files.write_json(run / "recipe.json", {})
    files.write_text(run / "log.jsonl", f"{step}\n")
    files.write_text(run / f"predictions/{step:06d}.jsonl", "")
    return State(step=step, best_step=best)


def held(directory: Path) -> dict[str, bytes]:
    found = {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    return {name: content for name, content in found.items() if not name.startswith(".")}


def test_an_interrupted_run_goes_on_on_a_machine_that_has_nothing(
    hub: Uploads,
    corpora: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    def interrupt(text: str) -> None:
        if "step      3 " in text:
            signal.raise_signal(signal.SIGTERM)

    small = {"validation_clips": 1, "steps": 4}
    whole, _ = train(recipe_for(tmp_path / "whole", corpora, **small))
    first, told = train(recipe_for(tmp_path / "first", corpora, push_to=REPO, **small), interrupt)
    assert not first.finished
    assert "Pushing the last checkpoint" in told
    assert [made.get("visibility") or made["private"] for made in hub.created] in (["private"], [True])
    second, told = train(recipe_for(tmp_path / "second", corpora, push_to=REPO, **small))
    assert f"Fetching the run from {REPO}" in told
    assert "Resuming at step 3" in told
    assert second.finished
    assert same_weights(second.model, whole.model)
    assert not list((tmp_path / "second").glob(".*"))
    third, told = train(recipe_for(tmp_path / "third", corpora, push_to=REPO, **small))
    assert "Resuming at step 4" in told
    assert same_weights(third.model, whole.model)
    with pytest.raises(RecipeError, match="holds another run: width = 32, now 64"):  # never pushed over it
        train(recipe_for(tmp_path / "fourth", corpora, push_to=REPO, **small, width=64))


def test_the_repository_holds_the_newest_and_the_best_in_whole_commits(hub: Uploads, tmp_path: Path) -> None:
    run, paper = tmp_path / "run", io.StringIO()
    console = Console(file=paper, width=500)
    remote.prepare(REPO, run, console)
    for step, best in ((2, 2), (4, 2), (6, 6)):
        with remote.pushing(REPO, run, console, Session()) as push:
            push(run_with(run, step, best))
        assert held(hub.root / REPO) == held(run), paper.getvalue()
    assert len(hub.committed) == 3
    assert sorted(hub.committed[-1]["deletedFile"]) == [
        f"checkpoints/{step:06d}/{name}" for step in (2, 4) for name in ("model.safetensors", "state.pt")
    ]
    assert "lfsFile" in hub.committed[0]


def test_newer_checkpoints_replace_the_one_that_waits(hub: Uploads, tmp_path: Path) -> None:
    run, console = tmp_path / "run", Console(file=io.StringIO())
    remote.prepare(REPO, run, console)
    session = Session()
    with remote.pushing(REPO, run, console, session) as push:
        push(run_with(run, 1, 1))
        hub.await_commits(1)
        for step in (2, 3, 4):  # within remote.BETWEEN of the first
            push(run_with(run, step, 1))
        assert len(hub.committed) == 1
    assert len(hub.committed) == 2
    assert (hub.root / REPO / "log.jsonl").read_text() == "4\n"
    assert session.longest["push"] > 0
    assert not list(run.glob(".*"))


def test_what_was_handed_over_is_pushed_though_training_deletes_it(hub: Uploads, tmp_path: Path) -> None:
    run = tmp_path / "run"
    taken = remote.snapshot(run, run_with(run, 5, 5))
    before = held(taken)
    run_with(run, 9, 9)
    assert held(taken) == before
    assert "checkpoints/000005/state.pt" in before


@pytest.mark.parametrize("line", ["POST /api/models/.*/commit", "PUT /large/.*", "POST .*/preupload/"])
def test_a_failure_is_told_and_tried_again(hub: Uploads, tmp_path: Path, line: str) -> None:
    run, paper = tmp_path / "run", io.StringIO()
    console = Console(file=paper, width=500)
    remote.prepare(REPO, run, console)
    hub.faults.append(Fault(line, status=403, times=2))
    with remote.pushing(REPO, run, console, Session()) as push:
        push(run_with(run, 1, 1))
    assert paper.getvalue().count("It will be tried again") in (1, 2)  # several large files fail within one attempt
    assert held(hub.root / REPO) == held(run)


def test_a_hub_that_is_gone_does_not_end_the_run(hub: Uploads, tmp_path: Path) -> None:
    run, paper = tmp_path / "run", io.StringIO()
    console = Console(file=paper, width=500)
    remote.prepare(REPO, run, console)
    hub.faults.append(Fault("POST /api/models/.*/commit", status=403, times=99))
    with remote.pushing(REPO, run, console, Session()) as push:
        push(run_with(run, 1, 1))
    assert "The checkpoint stays in" in paper.getvalue()
    assert checkpoint.found(run)


def test_an_error_in_training_does_not_wait_for_the_hub(hub: Uploads, tmp_path: Path) -> None:
    run, console = tmp_path / "run", Console(file=io.StringIO())
    remote.prepare(REPO, run, console)
    hub.faults.append(Fault("POST /api/models/.*/commit", status=403, times=99))

    def come_apart() -> None:
        with remote.pushing(REPO, run, console, Session()) as push:
            push(run_with(run, 1, 1))
            raise HviskError("it came apart")

    with pytest.raises(HviskError, match="apart"):
        come_apart()


def test_without_the_right_to_write_a_run_does_not_begin(
    hub: Uploads,
    corpora: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HviskError, match=f"push_to = '{REPO}' cannot be used.*hf auth login"):
        train(recipe_for(tmp_path / "run", corpora, push_to=REPO))
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_begun_goes_on_without_the_hub(hub: Uploads, tmp_path: Path) -> None:
    run, paper = tmp_path / "run", io.StringIO()
    run_with(run, 1, 1)
    hub.faults.append(Fault("POST /api/repos/create", status=500, times=9))
    remote.prepare(REPO, run, Console(file=paper, width=500))
    assert "pushing will be tried again" in paper.getvalue()


def test_resume_needs_something_to_resume(hub: Uploads, corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(RecipeError, match="nothing to resume"):
        loop.train(recipe_for(tmp_path / "run", corpora, push_to=REPO), Console(quiet=True), Session(resume=True))
