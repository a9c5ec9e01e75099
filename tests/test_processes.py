"""A run in two processes: what they exchange, that a resumed run is bit-equal, and what happens when one of them dies."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hvisk.errors import HviskError, RecipeError
from hvisk.train import batches, processes
from hvisk.train.processes import Crew
from test_loop import corpora, recipe_for, same_weights, train  # noqa: F401 (corpora is a fixture)

EXCHANGE = """
import json, sys, torch
from pathlib import Path
from hvisk.train import processes
rank = int(sys.argv[1])
with processes.joined(rank, 2, Path(sys.argv[2])) as crew:
    a, b = torch.full((2, 3), float(rank)), torch.tensor([float("nan") if rank else 1.0, 4.0 * rank])
    crew.average([a, b])
    items = list(range(5))
    print(json.dumps({"a": a.tolist(), "b": b.tolist(), "threads": torch.get_num_threads(), "leads": crew.leads,
        "total": crew.total(1 + rank, 0.5), "items": crew.gather(items[rank::2])}))
"""


def test_what_processes_exchange(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXCHANGE]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "meet")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    told: list[dict[str, Any]] = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    for rank, found in enumerate(told):
        assert found["a"] == [[0.5] * 3] * 2
        assert found["b"][0] != found["b"][0]  # NaN in one is NaN in both: both leave the step out
        assert found["b"][1] == 2.0
        assert found["total"] == [3.0, 1.0]
        assert found["items"] == [0, 1, 2, 3, 4]
        assert found["threads"] == max(1, (os.cpu_count() or 1) // 2)
        assert found["leads"] == (rank == 0)


def test_alone_nothing_is_exchanged() -> None:
    assert Crew().total(1.5, 2) == [1.5, 2]
    assert Crew().gather(["a", "b"]) == ["a", "b"]


def test_an_interrupted_run_of_two_goes_on_to_the_same_weights(
    corpora: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    recipe = recipe_for(tmp_path / "whole", corpora, processes=2, batch_seconds=60)
    whole, told = train(recipe)
    assert whole.finished
    assert told.count("the first clip's labels") == 1  # one of the two talks

    def interrupt(text: str) -> None:
        if text.startswith("step      3"):
            signal.raise_signal(signal.SIGINT)

    halves = recipe_for(tmp_path / "halves", corpora, processes=2, batch_seconds=60)
    first, _ = train(halves, heard=interrupt)
    assert not first.finished
    assert first.state.step < recipe.steps
    second, _ = train(halves)
    assert second.finished
    assert same_weights(whole.model, second.model)
    assert whole.state.audio_seconds == pytest.approx(second.state.audio_seconds)


def test_both_processes_learn_from_their_own_half(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = recipe_for(tmp_path, corpora, processes=2, batch_seconds=60, margin=0, padded_share=0)
    stores, _ = batches.open_corpora(recipe)
    lengths = [store.seconds for store in stores]
    everything = [range(len(store)) for store in stores]
    selection = batches.Selection(everything, {})  # type: ignore[arg-type]
    planned = batches.plan(lengths, 0, batch_seconds=30, seed=recipe.seed)
    taken = []
    for rank in range(2):
        places = batches._places(stores, selection, recipe, batches.Position(), rank)
        for clips, place, after in places:
            if place.epoch:
                break
            assert place.batch % 2 == rank
            taken.append((place.batch, clips))
            assert after in (batches.Position(0, place.batch // 2 + 1), batches.Position(1, 0))
    assert [clips for _, clips in sorted(taken)] == planned[: len(planned) // 2 * 2]


def test_a_process_that_dies_is_named(
    corpora: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def record(*args: Any, **more: Any) -> subprocess.Popen[bytes]:
        started.append(start(*args, **more))
        return started[-1]

    monkeypatch.setattr(processes.subprocess, "Popen", record)

    def kill(text: str) -> None:
        if text.startswith("step      0"):
            started[0].kill()

    with pytest.raises(HviskError, match=r"exit codes \[-9\].*goes on from the last checkpoint"):
        train(recipe_for(tmp_path, corpora, processes=2, batch_seconds=60, steps=50), heard=kill)
    assert started[0].poll() is not None


LEAD = """
import json, subprocess, sys
from pathlib import Path
from rich.console import Console
from hvisk.train import loop, processes, recipe
start = subprocess.Popen
def told(*args, **more):
    process = start(*args, **more)
    print(process.pid, flush=True)
    return process
processes.subprocess.Popen = told
loop.train(recipe.resolve(json.loads(Path(sys.argv[1]).read_text()), "test"), Console(file=sys.stdout, width=300))
"""


def test_when_the_first_process_is_killed_the_other_ends_too(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = recipe_for(tmp_path / "run", corpora, processes=2, batch_seconds=60, steps=10_000)
    (tmp_path / "recipe.json").write_text(json.dumps(vars(recipe) | {"train": list(recipe.train)}))
    command = [sys.executable, "-c", LEAD, str(tmp_path / "recipe.json")]
    # stderr of both is one pipe: it ends when the last of the two has ended.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as leader:
        assert leader.stdout is not None
        assert int(leader.stdout.readline()) > 0
        while not leader.stdout.readline().startswith("the first clip's labels"):
            pass
        leader.kill()
        _, said = leader.communicate(timeout=120)
    assert "Traceback" not in said


def test_each_process_needs_30_seconds(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(RecipeError, match="for each process"):
        recipe_for(tmp_path, corpora, processes=2, batch_seconds=59)


def test_a_corpus_of_one_batch_is_too_little_for_two(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = recipe_for(tmp_path, corpora, train=(str(corpora / "other"),), processes=2, batch_seconds=60)
    with pytest.raises(RecipeError, match="processes=1"):
        train(recipe)
