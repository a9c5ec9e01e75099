"""The server itself: uvicorn, told to be patient with nobody, and to start the workers when the port is open."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hvisk.errors import HviskError
from hvisk.serve.app import build
from hvisk.serve.service import Service, begin
from hvisk.serve.settings import Settings, check

HEAD_SECONDS = 10.0  # for the head of a request: who sends a byte a minute holds no connection
IDLE_SECONDS = 30
LEAVE_SECONDS = 5  # for responses that are under way when the server is told to end


class Impatient(H11Protocol):
    """HTTP/1.1, for clients that say what they want within HEAD_SECONDS."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._await_head(IDLE_SECONDS)

    def _await_head(self, idle: float = 0.0) -> None:
        before = self.cycle

        def late() -> None:
            upgraded = self.transport.get_protocol() is not self  # a WebSocket has the connection now
            if self.cycle is before and not upgraded and not self.transport.is_closing():
                self.transport.close()

        self.loop.call_later(idle + HEAD_SECONDS, late)


class Server(uvicorn.Server):
    """Starts the workers once the port is open, and tells waiting requests when it is told to end."""

    def __init__(self, config: uvicorn.Config, here: Service, opened: Callable[[int], None]) -> None:
        super().__init__(config)
        self.here, self.opened = here, opened
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started:
            self.here.crew.start()
            self.opened(self.servers[0].sockets[0].getsockname()[1])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End in good order at the first signal, at once at the second.

        uvicorn would raise the signal once more when it is done, before the folder is let go and what is to be forgotten is.
        """
        self.force_exit, self.should_exit = self.should_exit, True
        if self._loop:
            self._loop.call_soon_threadsafe(self.here.signals.close)


def serve(settings: Settings, opened: Callable[[int], None]) -> None:
    """Serve until a signal ends it. opened: told the port when it accepts connections.

    Raises HviskError for a folder that another server has, an address that cannot be bound, a model that cannot be loaded.
    """
    check(settings)
    reasons: list[str] = []
    server: Server | None = None

    def broken(reason: str) -> None:
        reasons.append(reason)
        if server:
            server.should_exit = True

    try:
        listener = _listener(settings)
    except OSError as error:
        raise HviskError(
            f"{settings.host}:{settings.port} cannot be opened: {error.strerror}. Another port: --port 0 takes a free one."
        ) from error
    with listener, contextlib.closing(begin(settings, broken)) as here:
        config = uvicorn.Config(
            build(here),
            http=Impatient,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=settings.proxy,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=LEAVE_SECONDS,
            ws_max_size=1 << 20,
            backlog=1024,
        )
        server = Server(config, here, opened)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(server.serve([listener]))
    if reasons:
        raise HviskError(reasons[0])


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host.strip("[]"), settings.port))
    except OSError:
        listener.close()
        raise
    return listener
