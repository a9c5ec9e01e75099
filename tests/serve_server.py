"""hvisk serve in a process of its own, as a user starts it, for the tests that talk to it."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from hvisk import audio
from hvisk.corpora.speak import speak

MAIN = """
import sys, typer
from hvisk.commands.serve import serve
from hvisk.errors import HviskError
app = typer.Typer(pretty_exceptions_enable=False)
app.command()(serve)
try:
    app()
except HviskError as error:
    sys.exit(f"error: {error}")
"""


@dataclass
class Served:
    """A running service."""

    process: "subprocess.Popen[str]"
    url: str
    data: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)
    heard: threading.Condition = field(default_factory=threading.Condition)
    listener: threading.Thread = field(default_factory=threading.Thread)

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            if line.startswith("{"):
                with self.heard:
                    self.events.append(json.loads(line))
                    self.heard.notify_all()
                if self.events[-1]["event"] == "ready":
                    self.ready.set()
            else:
                self.errors.append(line)
        self.ready.set()

    def told(self, condition: Callable[[list[str]], bool]) -> None:
        """Wait until this is true of the names of all events that the service has told so far."""
        with self.heard:
            assert self.heard.wait_for(lambda: condition([event["event"] for event in self.events]), 60), self.events

    def kill(self) -> None:
        """As a power cut would: the server at once, its workers as soon as they notice."""
        self.process.kill()
        self._gone()

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._gone()

    def workers(self) -> list[int]:
        """The processes that it has started."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def freeze(self) -> int:
        """Stop the only worker where it holds no lock on the database, which nobody could write to; return its id."""
        (worker,) = self.workers()
        while True:
            os.kill(worker, signal.SIGSTOP)
            try:
                with contextlib.closing(sqlite3.connect(self.data / "hvisk.sqlite", timeout=0.5)) as connection:
                    connection.execute("BEGIN IMMEDIATE")
                return worker
            except sqlite3.OperationalError:
                os.kill(worker, signal.SIGCONT)

    def _gone(self) -> int:
        code = self.process.wait(60)
        self.listener.join(60)  # workers hold the other end of stderr as long as they live
        assert self.process.stdout
        assert self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()
        return code


def start(model: Path, data: Path, *arguments: str, **environment: str) -> Served:
    """Start a service on a free port; return it when the port is open."""
    command = [sys.executable, "-c", MAIN, "--model", str(model), "--data", str(data), "--no-open", "--workers", "1"]
    if "--port" not in arguments:
        arguments = (*arguments, "--port", "0")
    process = subprocess.Popen(
        [*command, "--no-guards", "--beam-size", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert process.stdout
    url = process.stdout.readline().strip()
    served = Served(process, url.replace("localhost", "127.0.0.1").rstrip("/"), data)
    served.listener = threading.Thread(target=served.listen, daemon=True)
    served.listener.start()
    if not url:
        served.end()
        raise AssertionError("".join(served.errors))
    return served


@contextlib.contextmanager
def running(model: Path, data: Path, *arguments: str, **environment: str) -> Iterator[Served]:
    """A service whose model is loaded; ended afterwards."""
    served = start(model, data, *arguments, **environment)
    try:
        assert served.ready.wait(60), served.errors
        yield served
    finally:
        if served.process.poll() is None:
            served.end()


def events(response: httpx2.Response) -> Iterator[tuple[str, str, Any]]:
    """Event, id and data of a stream of server-sent events."""
    name = identity = ""
    for line in response.iter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "id":
            identity = value
        elif key == "data":
            yield name, identity, json.loads(value)
            name = ""


def said(*texts: str) -> bytes:
    """Sentences with pauses between them, as a FLAC file."""
    pause = np.zeros(audio.SAMPLE_RATE * 2, np.float32)
    return audio.encode(np.concatenate([part for text in texts for part in (speak(text), pause)]))
