"""One run in several processes on the CPU, each with its own cores and its own share of every step's audio.

Two threads inside one operation wait for each other at every one, processes once a step. On 2 cores that is worth 2 to 6 %
(LOG.md). The first process is the caller's own and talks and writes; it starts the others (`train/follower.py`), which compute
the same weights from the same gradients and leave no trace.
"""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from hvisk.errors import HviskError
from hvisk.train.recipe import Recipe

PATIENCE = datetime.timedelta(minutes=30)  # the longest that one waits for another: a checkpoint on a slow disk
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

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in place; NaN in one is NaN in all."""
        if self.size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.detach().reshape(-1).float() for part in parts])
        dist.all_reduce(flat)
        flat /= self.size
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


@contextlib.contextmanager
def crew(recipe: Recipe) -> Iterator[Crew]:
    """Start `recipe.processes` - 1 processes beside this one, and end them with the block.

    Raises HviskError when one of them ends before its time; what it had to say stands above, on stderr.
    """
    if recipe.processes == 1:
        yield ALONE
        return
    with tempfile.TemporaryDirectory(prefix="hvisk-") as folder:
        rendezvous, told = Path(folder) / "rendezvous", Path(folder) / "recipe.json"
        told.write_text(json.dumps(asdict(recipe) | {"train": list(recipe.train)}), encoding="utf-8")
        command = [sys.executable, "-m", "hvisk.train.follower", str(told)]
        others = [subprocess.Popen([*command, str(rank), str(rendezvous)]) for rank in range(1, recipe.processes)]
        try:
            with joined(0, recipe.processes, rendezvous) as lead:
                yield lead
                for other in others:
                    other.wait()
        except RuntimeError as error:  # gloo's, when the other end of a connection is gone
            codes = [_code(other) for other in others]
            if not any(codes):
                raise
            raise HviskError(
                f"One of the {recipe.processes} processes of the run ended too early (exit codes {codes}). Its own words "
                "are above; without any, the system ended it, mostly for memory. The same command goes on from the last "
                "checkpoint, and --set processes=1 with another out= needs less memory."
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
def joined(rank: int, size: int, rendezvous: Path) -> Iterator[Crew]:
    """Meet the others at `rendezvous`, a file that all name and nobody has made yet; leave them with the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a machine without a network has no other
    dist.init_process_group("gloo", init_method=rendezvous.as_uri(), rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Crew(rank, size)
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)
