"""The WebSocket of live captions: a process of its own for each, so that a broken stream breaks nothing else.

    client -> binary: sound as it is recorded; text: {"type": "end"}
    server -> text: {"type": "ready"}, {"type": "caption", ...}, {"type": "error", "message"}, {"type": "end", "seconds"}

Nothing of it is kept. docs/service.md has the fields.
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from hvisk.serve.observe import log
from hvisk.serve.service import LANGUAGE, Service

MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz, as in hvisk.container, which would bring numpy and PyAV into the server
SILENT_SECONDS = 60.0  # without any sound a session ends: a forgotten page holds no process
LEAVE_SECONDS = 10.0  # for the last captions

router = APIRouter()
_open: Counter[str] = Counter()  # sessions of each client


@router.websocket("/api/live")
async def live(
    socket: WebSocket,
    form: Annotated[Literal["pcm16", "container"], Query(alias="format")] = "container",
    rate: Annotated[int, Query(ge=MIN_RATE, le=MAX_RATE)] = 16_000,
    language: Annotated[str, Query(pattern=LANGUAGE)] = "",
) -> None:
    """Caption what is spoken."""
    here: Service = socket.app.state.service
    await socket.accept()
    client, limits = socket.state.client, here.settings.limits
    if _open[client] >= limits.client_live:
        await socket.close(1008, f"There are {limits.client_live} live sessions from {client} already.")
        return
    if _open.total() >= limits.live:
        message = f"There are {limits.live} live sessions already. Try again later."
        await socket.send_text(json.dumps({"type": "error", "message": message}))
        await socket.close(1013)
        return
    _open[client] += 1  # before anything is waited for: others are asking meanwhile
    log("live begun", sessions=_open.total())
    try:
        await _caption(socket, here, form, rate, language or here.settings.language)
    finally:
        _open.subtract([client])
        if not _open[client]:
            del _open[client]
        log("live ended", sessions=_open.total())
    with contextlib.suppress(RuntimeError):  # the client has closed it
        await socket.close()


async def _caption(socket: WebSocket, here: Service, form: str, rate: int, language: str) -> None:
    process = await _started(here, form, rate, language)
    sending = asyncio.create_task(_send(socket, process))
    try:
        with contextlib.suppress(ConnectionError):  # the process has ended, and what it said last is still to be sent
            await _take(socket, process, here)
        await asyncio.wait_for(sending, LEAVE_SECONDS)
    except (WebSocketDisconnect, TimeoutError):
        sending.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _take(socket: WebSocket, process: asyncio.subprocess.Process, here: Service) -> None:
    """Hand the client's sound on until it ends, breaks off, or is longer than a recording may be."""
    assert process.stdin
    loop = asyncio.get_running_loop()
    until = loop.time() + here.settings.limits.audio_seconds
    while not here.signals.closing and loop.time() < until:
        message = await asyncio.wait_for(socket.receive(), SILENT_SECONDS)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if data := message.get("bytes"):
            process.stdin.write(data)
            await process.stdin.drain()
        elif message.get("text") is not None and _ends(message["text"]):
            break
    process.stdin.close()


async def _send(socket: WebSocket, process: asyncio.subprocess.Process) -> None:
    assert process.stdout
    while line := await process.stdout.readline():
        await socket.send_text(line.decode().strip())


async def _started(here: Service, form: str, rate: int, language: str) -> asyncio.subprocess.Process:
    settings = here.settings
    wanted: dict[str, Any] = {
        "model": here.crew.model.get("directory") or settings.model,
        "language": language,
        "beam_size": settings.beam_size,
        "guards": settings.guards,
        "form": form,
        "rate": rate,
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hvisk.serve.listener", json.dumps(wanted)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


def _ends(text: str) -> bool:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        return isinstance(value, dict) and value.get("type") == "end"
    return False
