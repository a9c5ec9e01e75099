"""A teacher behind OpenAI's audio API: what it writes follows from the samples alone, and it can be made to wait."""

import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hvisk import audio

WORDS = """
    i dag skal vi tale om havet og om de mange fisk der lever i det for nogle af dem er små og hurtige mens andre er store og
    langsomme men alle har de brug for rent vand hvad kan vi så gøre ved det jeg tror at vi må begynde nu
"""
PER_SECOND = 2


def said(samples: Any) -> str:
    """Words as bare as a CTC model's: where in the list they begin follows from the samples, how many from their length."""
    words = WORDS.split()
    first = zlib.crc32(samples.tobytes()) % len(words)
    count = max(1, round(PER_SECOND * audio.seconds(samples)))
    return " ".join(words[(first + n) % len(words)] for n in range(count))


class Teacher(ThreadingHTTPServer):
    """Two models: "words", and "marks", which writes the same words as a sentence. `asked`: process ids, one a request."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.asked: list[int] = []
        self.hold_at = 0  # the number of the request that is kept waiting; 0 is none
        self.held, self.release = threading.Event(), threading.Event()
        self.lock = threading.Lock()

    def names(self) -> list[str]:
        return [f"api:http://127.0.0.1:{self.server_port}/v1#{model}" for model in ("words", "marks")]


class _Handler(BaseHTTPRequestHandler):
    server: Teacher

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        start = body.index(b"RIFF")
        size = 8 + int.from_bytes(body[start + 4 : start + 8], "little")
        text = said(audio.load(body[start : start + size]))
        if b"\r\nmarks\r\n" in body:
            text = text[0].upper() + text[1:] + "."
        with self.server.lock:
            self.server.asked.append(client(self.client_address[1]))
            held = len(self.server.asked) == self.server.hold_at
        if held:
            self.server.held.set()
            self.server.release.wait(120)
        try:
            self.send_response(400 if b"\r\nbroken\r\n" in body else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"text": text}).encode())
        except ConnectionError:
            self.close_connection = True  # whoever asked was killed

    def log_message(self, *_: Any) -> None:
        pass


def client(port: int) -> int:
    """The id of the process of this machine that has a connection from this port; 0 where it is gone already."""
    for _ in range(20):  # the tables of the kernel are no snapshot: a line may be missed while others come and go
        lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        inodes = {f"socket:[{fields[9]}]" for fields in lines if int(fields[1].rpartition(":")[2], 16) == port}
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and holds(process, inodes):
                return int(process.name)
    return 0


def holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(str(file.readlink()) in inodes for file in (process / "fd").iterdir())
    except OSError:  # it has ended, or a file of it was closed
        return False


@contextmanager
def teaching(port: int = 0) -> Iterator[Teacher]:
    server = Teacher(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
