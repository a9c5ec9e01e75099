"""The worker processes, as their server sees them: started, called, replaced when they die, let go in good order."""

import asyncio
import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from hvisk.serve.database import NO_DATABASE
from hvisk.serve.jobs import Jobs
from hvisk.serve.observe import Metrics, log
from hvisk.serve.settings import Settings

TURN_SECONDS = 900.0  # without a sign from a worker that has work: a decoder that hangs
LEAVE_SECONDS = 15.0  # for the turn that a worker is in when the server ends
REST_SECONDS = 1.0  # before the next worker after one that died: a machine without memory must not be kept busy
STARTS = 3  # that may go wrong before there was a first one that did not
LINE_BYTES = 1 << 20


@dataclass
class Crew:
    """Workers of one server. model: what the first to be ready said of it. state: of the model."""

    settings: Settings
    jobs: Jobs
    metrics: Metrics
    notify: Callable[[str], None]
    broken: Callable[[str], None]  # told why, where the model cannot be loaded
    state: Literal["starting", "ready", "failed"] = "starting"
    model: dict[str, Any] = field(default_factory=dict)
    _processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _leaving: bool = False

    def start(self) -> None:
        """Start all workers; call it when the port is open, since a model takes a second of every core."""
        for _ in range(self.settings.workers):
            self._tasks.add(asyncio.create_task(self._keep()))

    def call(self) -> None:
        """Tell the workers that there is work."""
        for process in self._processes.values():
            if process.stdin and not process.stdin.is_closing():
                process.stdin.write(b"work\n")

    async def leave(self) -> None:
        """Let each worker end its turn and give back the rest; who takes longer than LEAVE_SECONDS is killed."""
        self._leaving = True
        for process in self._processes.values():
            if process.stdin:
                process.stdin.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LEAVE_SECONDS)
            for process in list(self._processes.values()) if late else []:
                process.kill()
            if late:
                await asyncio.wait(late)

    async def _keep(self) -> None:
        tries = 0
        while not self._leaving:
            worker = secrets.token_hex(8)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "hvisk.serve.worker"),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    limit=LINE_BYTES,
                )
            except OSError as error:  # no memory, too many processes: for a minute, perhaps
                log("worker not started", error=type(error).__name__)
                await asyncio.sleep(REST_SECONDS)
                continue
            assert process.stdin
            self._processes[worker] = process
            try:
                process.stdin.write(f"{self.settings.to_json()}\n{self.jobs.server} {worker}\n".encode())
                await self._hear(process)
                code = await process.wait()
            finally:
                del self._processes[worker]
            if self.state == "failed" or self._leaving:
                return
            crashed = code != NO_DATABASE
            lost = await self._requeued(worker, crashed)
            for job in lost:
                self.notify(job)
            tries += crashed
            if self.state == "starting" and tries >= STARTS:
                self._take({"failed": f"The recogniser ended {STARTS} times as it began; its own error is above."})
                return
            if crashed:
                self.metrics.crashes.inc()
            log("worker died" if crashed else "worker without database", code=code, jobs=len(lost))
            await asyncio.sleep(REST_SECONDS)

    async def _requeued(self, worker: str, crashed: bool) -> list[str]:
        """Queue again what a worker had, as soon as the database is there; as the server ends, its next start does so."""
        while not self._leaving:
            try:
                return await asyncio.to_thread(self.jobs.requeue, worker, crashed)
            except SQLAlchemyError as error:
                log("requeue failed", error=type(error).__name__)
                await asyncio.sleep(REST_SECONDS)
        return []

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        """Read what a worker says until it ends."""
        assert process.stdout
        working = False
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), TURN_SECONDS if working else None)
            except TimeoutError:
                log("worker hangs", seconds=TURN_SECONDS)
                process.kill()
                return
            if not line:
                return
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library that prints
            working = "took" in message or message.get("left", 0) > 0
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if "failed" in message:
            self.state = "failed"
            self.broken(message["failed"])
        elif "ready" in message:
            first = self.state != "ready"
            self.state, self.model = "ready", message
            if first:
                log("ready", model=message["directory"])
        for job in message.get("took", ()):
            self.notify(job)
        for job, state in message.get("turn", ()):
            self.notify(job)
            if state != "running":
                self.metrics.ended.labels(state).inc()
        self.metrics.heard.inc(message.get("heard", 0.0))
