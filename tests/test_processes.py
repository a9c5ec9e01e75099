"""A run in two processes: what they exchange, that a resumed run is bit-equal, and what happens when one of them dies."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hvisk.errors import HviskError, RecipeError
from hvisk.train import batches, processes
from hvisk.train import model as whisper
from hvisk.train.plan import plan
from hvisk.train.processes import Crew
from test_loop import corpora, recipe_for, same_weights, train  # noqa: F401 (corpora is a fixture)

EXCHANGE = """
import json, sys, torch
from pathlib import Path
from hvisk.train import processes
rank = int(sys.argv[1])
with processes.joined(rank, 2, Path(sys.argv[2]).as_uri()) as crew:
    a, b = torch.full((2, 3), float(rank)), torch.tensor([float("nan") if rank else 1.0, 4.0 * rank])
    crew.add([a, b])
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
        assert found["a"] == [[1.0] * 3] * 2
        assert found["b"][0] != found["b"][0]  # NaN in one is NaN in both: both leave the step out
        assert found["b"][1] == 4.0
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
    selection = batches.select(stores, whisper.create(recipe).tokens, recipe)
    planned = plan(batches.learnable(stores, selection, recipe), 0, recipe, 2)
    taken = []
    for rank in range(2):
        for windows, place, after in batches._places(stores, selection, recipe, batches.Position(), rank, 2):
            if place.epoch:
                break
            assert place.batch % 2 == rank
            taken.append((place.batch, windows))
            assert after in (batches.Position(0, place.batch // 2 + 1), batches.Position(1, 0))
    assert [windows for _, windows in sorted(taken)] == planned[: len(planned) // 2 * 2]


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
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.plain()))
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


def test_without_a_wish_there_is_one_process_a_gpu_and_one_on_a_cpu(
    corpora: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = recipe_for(tmp_path, corpora, batch_seconds=60)
    assert recipe.processes == 0
    for gpus, size in ((0, 1), (1, 1), (2, 2)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert processes.wanted(recipe) == size
    with pytest.raises(RecipeError, match=r"20 s for each of the 2 processes.*batch_seconds=60, or processes=1"):
        processes.wanted(recipe_for(tmp_path, corpora, batch_seconds=40))
    with pytest.raises(RecipeError, match="processes = 3, and this machine has 2 GPUs"):
        processes.wanted(recipe_for(tmp_path, corpora, batch_seconds=90, processes=3))


GRADIENTS = """
import sys, torch
from dataclasses import replace
from pathlib import Path
from hvisk.train import model as whisper, processes
model, batch, out = *torch.load(sys.argv[1], weights_only=False), Path(sys.argv[2])
with processes.crew(None) as crew:
    own = [slice(0, 3), slice(3, 4)][crew.rank]  # unequal shares: their means do not average to the mean of the whole
    tensors = {k: v[own] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    joint = crew.total(float((tensors["labels"] != -100).sum()), float(len(tensors["labels"])))
    mel = whisper.log_mel(tensors["waveforms"], 80)
    total, plain = whisper.loss(model, mel, replace(batch, **tensors), label_smoothing=0.1, ctc_weight=0.3, joint=joint)
    total.backward()
    parameters = [*model.net.parameters(), *model.letters.parameters()]
    crew.add([plain, *(p.grad for p in parameters if p.grad is not None)])
    torch.save([plain.detach(), [p.grad for p in parameters]], out / str(crew.rank))
"""


def test_two_unequal_shares_have_the_gradient_of_the_joint_batch(
    corpora: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    recipe = recipe_for(tmp_path, corpora, dropout=0.0, activation_dropout=0.0, padded_share=0.0)
    stores, _ = batches.open_corpora(recipe)
    model = whisper.start(recipe)
    selection = batches.select(stores, model.tokens, recipe)
    stream = batches.stream(stores, selection, model.tokens, recipe, batches.Position())
    batch = next(batch for batch in stream if len(batch.waveforms) >= 4)
    stream.close()
    four = {k: v[:4] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    batch = dataclasses.replace(batch, **four)
    (tmp_path / "grads").mkdir()
    torch.save((model, batch), tmp_path / "given")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    done = subprocess.run([*command, script, tmp_path / "given", tmp_path / "grads"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    model.net.train()
    mel = whisper.log_mel(batch.waveforms, 80)
    total, plain = whisper.loss(model, mel, batch, label_smoothing=0.1, ctc_weight=0.3)
    total.backward()
    wanted = [p.grad for p in [*model.net.parameters(), *model.letters.parameters()]]
    both = [torch.load(tmp_path / "grads" / str(rank)) for rank in range(2)]
    for loss, found in both:
        assert loss == pytest.approx(float(plain), rel=1e-5)
        for one, other in zip(found, wanted, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    for one, other in zip(both[0][1], both[1][1], strict=True):
        assert one is None or torch.equal(one, other)


def test_a_launcher_s_processes_train_as_our_own_do(
    corpora: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    recipe = recipe_for(tmp_path / "own", corpora, processes=2, batch_seconds=60, steps=3)
    own, _ = train(recipe)
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**recipe.plain(), "out": str(tmp_path / "run")}.items()]
    (tmp_path / "recipe.toml").write_text("\n".join(lines))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "--no-python",
    ]
    hvisk = [sys.executable, "-c", "from hvisk.cli import main; main()"]
    done = subprocess.run(
        [*launch, *hvisk, "train", str(tmp_path / "recipe.toml")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("in 2 processes") == 1  # one of the two talks
    assert done.stdout.count("validation WER") == 1
    assert same_weights(own.model, tmp_path / "run/model")


def test_a_corpus_of_one_batch_is_too_little_for_two(corpora: Path, tmp_path: Path) -> None:  # noqa: F811
    recipe = recipe_for(tmp_path, corpora, train=(str(corpora / "other"),), processes=2, batch_seconds=60)
    with pytest.raises(RecipeError, match="processes=1"):
        train(recipe)
