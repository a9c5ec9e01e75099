"""How long hvisk serve waits for a request: not for ever, and a WebSocket is none that it waits for."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from websockets.sync.client import connect

from hvisk.serve import server

SECONDS = 0.2


async def app(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket that says something when an unfinished request would have been given up."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.sleep(2 * SECONDS)
    await send({"type": "websocket.send", "text": "still there"})
    await receive()


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "HEAD_SECONDS", SECONDS)
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, http=server.Impatient, lifespan="off", log_level="critical"))
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([listener])))
    thread.start()
    yield listener.getsockname()[1]
    running.should_exit = True
    thread.join()


def test_who_says_nothing_is_let_go_and_who_has_a_websocket_is_not(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/", proxy=None) as captions:
        assert captions.recv() == "still there"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
        silent.sendall(b"GET / HTTP/1.1\r\n")
        assert silent.recv(1) == b""
