"""The same work on many machines: tasks shared out by Ray Data to processes that each make their worker once.

What a task gives is bytes, and comes back to whoever asked for it, who alone writes. A process that dies costs the task that
it was at: Ray starts another, which begins that task again. Every machine of the cluster has hvisk installed, and finds
recordings and models under the same names: in a shared folder.
"""

import contextlib
import logging
import pickle
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from hvisk import errors
from hvisk.errors import HviskError

Task = TypeVar("Task")

DEATHS = 5  # of processes that a task survives: more often than that it is the task that kills them


class _Worker:
    """What Ray makes in each process. An error of hvisk's is an answer too: Ray would wrap it up."""

    def __init__(self, make: Callable[[], Callable[[Any], bytes]]) -> None:
        self.make = make
        self.work: Callable[[Any], bytes] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        answer = {"number": row["number"], "result": b"", "error": "", "kind": ""}
        try:
            self.work = self.work or self.make()
            return {**answer, "result": self.work(pickle.loads(row["task"]))}
        except HviskError as error:
            return {**answer, "error": str(error), "kind": type(error).__name__}


def share_out(
    address: str,
    tasks: Sequence[Task],
    make: Callable[[], Callable[[Task], bytes]],
    *,
    processes: int = 0,
    cores: int = 1,
    gpus: float = 0.0,
) -> Generator[tuple[int, bytes], None, None]:
    """Yield the number of each task and what it gave, as they are finished.

    address: of a Ray cluster, "auto" or HOST:PORT; "local" starts one on this machine. make: called once in each process;
    what it returns is called with each task. Both are picklable. processes: at most so many; 0 is as many as the cluster
    has room for. cores, gpus: what each of them takes. Raises MissingExtra without Ray and HviskError where there is
    no such cluster, no room in it, or a task that fails; what `make` and its worker raise of hvisk's errors passes.
    Ray tells of dead processes on sys.stdout, which is for results: until the last answer it stands for stderr.
    """
    errors.require("ray", "ray", "work on a cluster")
    import ray
    import ray.data

    with contextlib.redirect_stdout(sys.stderr):
        try:
            if address not in ("local", "auto"):
                _answering(address)
            alone: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False, **alone)
        except (OSError, ValueError, RuntimeError) as error:
            raise HviskError(
                f"There is no Ray cluster at '{address}' ({error}). Accepted: auto, HOST:PORT, or local. Start one with: "
                "ray start --head"
            ) from error
        try:
            yield from _answers(ray, tasks, make, processes, cores, gpus)
        except ray.exceptions.RayError as error:
            raise HviskError(
                f"Ray gave up: {error} What is finished is kept; the same command goes on from there."
            ) from error
        finally:
            ray.shutdown()


def _answers(
    ray: Any,
    tasks: Sequence[Task],
    make: Callable[[], Callable[[Task], bytes]],
    processes: int,
    cores: int,
    gpus: float,
) -> Iterator[tuple[int, bytes]]:
    there = ray.cluster_resources()
    room = int(min(there.get("CPU", 0) / cores, there.get("GPU", 0) / gpus if gpus else len(tasks)))
    if room < 1:
        raise HviskError(
            f"A process takes {cores} cores and {gpus:g} GPUs, and the cluster has {there.get('CPU', 0):g} and "
            f"{there.get('GPU', 0):g}. Ask for fewer: --threads, --gpus."
        )
    many = min(processes or room, room, len(tasks))
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    rows = [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)]
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # what it says of progress is said by hvisk
    with warnings.catch_warnings():
        # There is no other way to say how often a task may be tried again: without it, for ever.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
        shared = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Worker,
            fn_constructor_args=(make,),
            compute=ray.data.ActorPoolStrategy(size=many, max_tasks_in_flight_per_actor=1),
            num_cpus=cores,
            num_gpus=gpus,
            ray_remote_args_fn=lambda: {"max_task_retries": DEATHS},
        )
    for answer in shared.iter_rows():
        if answer["error"]:
            raise getattr(errors, answer["kind"], HviskError)(answer["error"])
        yield answer["number"], answer["result"]


def _answering(address: str) -> None:
    """Raise OSError or ValueError where nobody listens, which Ray finds out in minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    socket.create_connection((host, int(port)), timeout=10).close()
