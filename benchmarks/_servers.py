"""Servers as processes of their own, for the benchmark that asks them."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

PATIENCE = 900.0  # seconds for an answer


@dataclass
class Server:
    """A server in a process of its own, on a port that stays the same when it is started again."""

    command: list[str]
    port: int
    process: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        """Start it, and wait until its port is open."""
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, env={**os.environ, "OMP_NUM_THREADS": "1"}, **quiet)
        while self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.005)
        raise SystemExit(f"It does not start: {' '.join(self.command)}")

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE, trust_env=False)

    def ready(self) -> None:
        """Wait until the model is loaded."""
        with self.client() as client:
            while client.get("/health").status_code == 503:
                time.sleep(0.01)

    def processes(self) -> list[int]:
        """The server's own id, then those of its workers."""
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def memory(self, kind: str) -> float:
        """MB of all its processes: VmRSS now, VmHWM the most that each ever had. What they share counts for each."""
        total = 0
        for pid in self.processes():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(kind))
        return round(total * 1024 / 1e6, 1)


@contextlib.contextmanager
def running(command: Sequence[str | Path]) -> Iterator[Server]:
    """A server that is started with its port in the place of PORT; ended afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    server = Server([str(port) if part == "PORT" else str(part) for part in command], port)
    server.start()
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()
