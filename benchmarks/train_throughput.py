"""Clips a second in training, end to end: python benchmarks/train_throughput.py [--smoke]

Claim `cpu`, or `gpu` where there is one: hvisk's own loop, from shards on disk to the optimiser's step, beside the usual recipe
(`_usual.py`: streamed dataset, features padded to 30 s, Seq2SeqTrainer): same weights of whisper-tiny's shape and whole
vocabulary, same clips of CoRal's lengths, same cores, turn by turn. Each in the number format that its users get: fp32 on a CPU
and fp16 on a GPU for theirs, the best of the machine for ours. On 2 cores ours has the better of one and two processes;
on a GPU each has the best of several batch sizes.

`ablation`: what each idea is worth alone, in one process: our loop as it is ("ours") and without that one ("peer"; fp32 for
`precision`). The vocabulary is the other way round, as the claim is made with the whole one: ours with 8,192 tokens, peer as
it is.
`two processes`: our loop in two processes with a core each ("ours") beside twice what one of them does alone ("peer").
"""

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from rich.console import Console

import _clips
import _usual
from _record import claim, write
from hvisk import features
from hvisk.corpora.store import Store
from hvisk.export import trim
from hvisk.train import batches, loop, precision
from hvisk.train import model as whisper
from hvisk.train.recipe import Recipe

VOCABULARY = 8192
SMALL = f"{VOCABULARY:,} tokens"


@dataclass(frozen=True)
class Form:
    """How much is measured. steps: in a round, of ours, of theirs and in the ablation. ours, theirs: batch sizes to try."""

    clips: int
    rounds: int
    steps: int
    peer_steps: int
    ablation_steps: int
    ablation_rounds: int
    ours: tuple[tuple[float, int], ...] = (
        (160.0, 1),
        (320.0, 2),
    )  # seconds of audio a step, and processes that share it
    theirs: tuple[_usual.Settings, ...] = (_usual.Settings(batch=8, accumulation=2),)


# Of 1,024 clips batches are as even as those of a real corpus (8 % padding; of 256 clips 13 %, of 100,000 6 %).
CPU = Form(clips=1024, rounds=3, steps=5, peer_steps=1, ablation_steps=2, ablation_rounds=1)
SMOKE = Form(
    clips=32,
    rounds=2,
    steps=2,
    peer_steps=1,
    ablation_steps=1,
    ablation_rounds=1,
    ours=((80.0, 1),),
    theirs=(_usual.Settings(batch=4),),
)
GPU = Form(
    clips=4096,
    rounds=4,
    steps=40,
    peer_steps=20,
    ablation_steps=20,
    ablation_rounds=3,
    ours=((160.0, 1), (640.0, 1), (2560.0, 1)),
    theirs=tuple(_usual.Settings(batch=batch, workers=4, fp16=True) for batch in (16, 32, 64, 128)),
)
Run = Callable[[], float]  # clips a second


@dataclass(frozen=True)
class Trial:
    """One recipe on one corpus. mean: seconds of its clips."""

    recipe: Recipe
    mean: float

    def __call__(self) -> float:
        with tempfile.TemporaryDirectory() as out:
            state = loop.train(replace(self.recipe, out=out), Console(file=io.StringIO())).state
        return state.audio_seconds / state.seconds / self.mean

    def but(self, **changes: Any) -> "Trial":
        return replace(self, recipe=replace(self.recipe, **changes))


@dataclass(frozen=True)
class Usual:
    train: Callable[..., _usual.Clock]
    base: Path
    corpus: Path
    settings: _usual.Settings

    def __call__(self) -> float:
        with tempfile.TemporaryDirectory() as out:
            clock = self.train(self.base, self.corpus, self.settings, Path(out))
        return self.settings.batch * self.settings.accumulation * len(clock.ends) / clock.seconds


def turns(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds a clip of each run, one after the other in each round."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(1 / run())
    return found


def best(runs: list[Run]) -> Run:
    """The fastest, each having run once, which warms it up too."""
    return max(runs, key=lambda run: run())


def patched(run: Run, *patches: Any) -> Run:
    def inside() -> float:
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            return run()

    return inside


class Later:
    """Stands in for the threads that load ahead: what is submitted is done when it is asked for, and not before."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __enter__(self) -> "Later":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> "Promise":
        return Promise(function, arguments)


class Promise(Future):  # type: ignore[type-arg]
    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self.work = function, arguments

    def result(self, timeout: float | None = None) -> Any:
        function, arguments = self.work
        return function(*arguments)


def numpy_mel(waveforms: torch.Tensor, mels: int) -> torch.Tensor:
    """Clip by clip in numpy on the CPU, as a loader would."""
    rows = [torch.from_numpy(features.log_mel(row, mels, len(row) // features.HOP)) for row in waveforms.cpu().numpy()]
    return torch.stack(rows).to(waveforms.device)


def side_by_side(one: Trial, two: Trial) -> dict[str, Any]:
    """The claim about two processes with a core each, against twice one with a core: the same audio a process and step."""

    def alone() -> float:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return 2 * one()
        finally:
            torch.set_num_threads(threads)

    times = turns({"two": two, "alone": alone}, 1)
    pairs = list(zip(times["two"], times["alone"], strict=True))
    return claim(pairs, peer_name="twice one process on one core", unit="clips a second")


@contextlib.contextmanager
def corpora(form: Form) -> Iterator[tuple[Store, Store, Path, Path]]:
    """Clips to train on, one to validate on, whisper-tiny's shape, and the same with fewer tokens."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = _clips.corpus(folder / "train", "train", form.clips, shards=8, workers=torch.get_num_threads())
        validation = _clips.corpus(folder / "validation", "validation", 1)
        tiny = _clips.whisper_tiny(folder / "tiny")
        yield train, validation, tiny, trim.for_training(tiny, train.texts, VOCABULARY, folder / "small")


def main() -> None:
    smoke = "--smoke" in sys.argv
    chosen = precision.choose()
    form = SMOKE if smoke else GPU if chosen.device == "cuda" else CPU
    with corpora(form) as (train, validation, tiny, small), _usual.apart() as usual:
        recipe = Recipe(
            out="",
            train=(str(train.path),),
            validation=str(validation.path),
            validation_clips=1,
            base=str(tiny),
            steps=form.steps,
            evaluate_every=10**9,
            checkpoint_every=10**9,
        )
        mean = float(train.seconds.mean())
        trials = [Trial(replace(recipe, batch_seconds=size, processes=many), mean) for size, many in form.ours]
        ours = best(trials)
        peer = best([Usual(usual, tiny, train.path, replace(s, steps=form.peer_steps)) for s in form.theirs])
        assert isinstance(ours, Trial)
        assert isinstance(peer, Usual)
        unit = "clips a second"
        times = turns({"ours": ours, "peer": peer}, form.rounds)
        pairs = list(zip(times["ours"], times["peer"], strict=True))
        found = claim(pairs, peer_name="Seq2SeqTrainer, 30 s, streamed", unit=unit)
        found |= {
            "ours_settings": {
                "precision": chosen.dtype,
                "batch_seconds": ours.recipe.batch_seconds,
                "processes": ours.recipe.processes,
                "loader_threads": ours.recipe.loader_threads,
                "steps": ours.recipe.steps,
                "everything else": "the recipe's defaults",
            },
            "peer_settings": {
                "precision": "fp16" if peer.settings.fp16 else "fp32",
                "batch": peer.settings.batch,
                "accumulation": peer.settings.accumulation,
                "workers": peer.settings.workers,
                "steps": peer.settings.steps,
                "attention": "sdpa, transformers' default and the faster one at 30 s",
                "gradient_checkpointing": False,
            },
            "threads": torch.get_num_threads(),
            "mean_seconds": round(mean, 2),
        }

        def keep() -> None:
            """The record as far as it is known: what follows takes longer than the claim itself."""
            write(
                "train_throughput",
                "smoke" if smoke else "full",
                {"gpu" if chosen.device == "cuda" else "cpu": found},
                ["torch", "transformers", "datasets", "accelerate"],
            )

        keep()
        shorter = (ours if ours.recipe.processes == 1 else trials[0]).but(steps=form.ablation_steps)
        variants: dict[str, Run] = {
            "ours": shorter,
            # A 30 s window costs as much as five clips, so that fewer steps tell as much.
            "own length": shorter.but(padded_share=1.0, steps=max(1, form.ablation_steps // 4)),
            "precision": shorter.but(precision="fp32"),
            SMALL: shorter.but(base=str(small)),
            "loading ahead": patched(shorter, mock.patch.object(batches, "ThreadPoolExecutor", Later)),
            "mel on the device": patched(shorter, mock.patch.object(whisper, "log_mel", numpy_mel)),
        }
        if chosen.dtype == "bf16" and chosen.device == "cuda":
            variants["bf16, against fp16"] = shorter.but(precision="fp16")
        times = turns(variants, form.ablation_rounds)
        whole = times.pop("ours")
        ablation = {
            idea: claim(list(zip(whole, slower, strict=True)), peer_name=f"ours without: {idea}", unit=unit)
            for idea, slower in times.items()
        }
        fewer = list(zip(times[SMALL], whole, strict=True))
        ablation[SMALL] = claim(fewer, peer_name="ours as it is, 51,865 tokens", unit=unit)
        if chosen.device == "cpu" and (torch.get_num_threads(), len(trials)) == (2, 2):
            ablation["two processes"] = side_by_side(*(trial.but(steps=form.ablation_steps) for trial in trials))
        found["ablation"] = ablation
        keep()


if __name__ == "__main__":
    main()
