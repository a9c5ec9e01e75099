"""One run in several processes, each with its own GPU, or its own cores, and its own share of every step's audio.

Either the caller's process is the first one and starts the others (`train/follower.py`), one a GPU; or torchrun or accelerate
launch has started them all, and they find each other as it says. The first one talks and writes; the others compute the same
weights from the same gradients and leave no trace. On a CPU two threads inside one operation wait for each other at every
one, processes once a step: on 2 cores that is worth 2 to 6 % (LOG.md).
"""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hvisk.errors import HviskError, RecipeError
from hvisk.train.recipe import Recipe

PATIENCE = datetime.timedelta(minutes=30)  # the longest that one waits for another: a checkpoint on a slow disk
# What torchrun and accelerate launch tell each process. accelerate itself must not read it: it would make a group of its own.
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
T = TypeVar("T")


@dataclass(frozen=True)
class Crew:
    """The processes of a run, seen from number `rank` of `size`; alone, everything here costs nothing."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that talks and writes."""
        return self.rank == 0

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over the processes, in place; NaN in one is NaN in all."""
        if self.size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.detach().reshape(-1).float() for part in parts])
        dist.all_reduce(flat)
        start = 0
        for part in parts:
            part.copy_(flat[start : start + part.numel()].view_as(part))
            start += part.numel()

    def total(self, *values: float) -> list[float]:
        """Return the sum of each value over the processes."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def gather(self, mine: list[T]) -> list[T]:
        """Return the lists of all processes, interleaved: gather(items[rank::size]) is items."""
        if self.size == 1:
            return mine
        parts: list[list[T]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, mine)
        longest = max(map(len, parts))
        return [part[i] for i in range(longest) for part in parts if i < len(part)]


ALONE = Crew()


def launched() -> bool:
    """Whether torchrun, accelerate launch or their like started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def wanted(recipe: Recipe) -> int:
    """Return the number of processes that the recipe means on this machine; RecipeError where it is impossible."""
    gpus = torch.cuda.device_count()
    size = recipe.processes or max(1, gpus)
    if gpus and size > gpus:
        raise RecipeError(f"processes = {size}, and this machine has {gpus} GPUs. Set processes=0, for one a GPU.")
    if size > 1 and not gpus and torch.backends.mps.is_available():
        raise RecipeError(f"processes = {size} is for CPUs and CUDA GPUs; this machine has Apple's. Set processes=1.")
    share = recipe.batch_seconds / size
    if share < 30:
        raise RecipeError(
            f"batch_seconds = {recipe.batch_seconds} is {share:.0f} s for each of the {size} processes, and the longest clip "
            f"has 30. Set batch_seconds={30 * size}, or processes=1."
        )
    return size


@contextlib.contextmanager
def crew(recipe: Recipe) -> Iterator[Crew]:
    """Join the processes that a launcher started, or start those that the recipe wants and end them with the block.

    Raises HviskError when one of them ends before its time; what it had to say stands above, on stderr.
    """
    if launched():
        try:
            with joined(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://") as member:
                yield member
        except RuntimeError as error:
            if "gloo" not in str(error) and not isinstance(error, dist.DistError):
                raise
            raise HviskError("Another process of this run ended too early; its own words are above.") from error
        return
    size = wanted(recipe)
    if size == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="hvisk-") as folder:
        rendezvous, told = (Path(folder) / "rendezvous").as_uri(), Path(folder) / "recipe.json"
        told.write_text(json.dumps(recipe.plain()), encoding="utf-8")
        command = [sys.executable, "-m", "hvisk.train.follower", str(told)]
        others = [subprocess.Popen([*command, str(rank), str(size), rendezvous]) for rank in range(1, size)]
        try:
            with joined(0, size, rendezvous) as lead:
                yield lead
                for other in others:
                    other.wait()
        except RuntimeError as error:  # gloo's or NCCL's, when the other end of a connection is gone
            codes = [_code(other) for other in others]
            if not any(codes):
                raise
            raise HviskError(
                f"One of the {size} processes of the run ended too early (exit codes {codes}). Its own words are above; "
                "without any, the system ended it, mostly for memory. The same command goes on from the last checkpoint, "
                "and --set processes=1 needs less memory."
            ) from error
        finally:
            for other in others:
                other.kill()
                other.wait()


def _code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code; a connection is closed a moment before there is one, so it is waited for a little."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(timeout=5)
    return None


@contextlib.contextmanager
def joined(rank: int, size: int, rendezvous: str) -> Iterator[Crew]:
    """Meet the others at `rendezvous`, "env://" or the URL of a file that all name and nobody has made; leave with the block.

    Tensors on GPUs are exchanged by NCCL, all others by gloo.
    """
    threads, gpus = torch.get_num_threads(), torch.cuda.device_count()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    if gpus:
        local = int(os.environ.get("LOCAL_RANK", rank))
        if local >= gpus:
            raise HviskError(f"{here} processes were started here, and there are {gpus} GPUs. Start one a GPU.")
        torch.cuda.set_device(local)
    if sys.platform == "linux" and here == size:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine without a network has no other
    backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=size, timeout=PATIENCE)
    hidden = {name: os.environ.pop(name) for name in LAUNCHER if name in os.environ}
    try:
        yield Crew(rank, size)
    finally:
        os.environ.update(hidden)
        dist.destroy_process_group()
        torch.set_num_threads(threads)
