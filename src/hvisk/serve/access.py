"""Who may ask what: the outermost layer, before any route.

host      a browser that was lured here by a name of the attacker's (DNS rebinding) is refused
origin    another site's page may not ask in the name of the browser's user (CSRF), nor open a WebSocket
token     where there is one: `Authorization: Bearer`, or the cookie that /api/login sets
body      no slower than `Limits` say, no larger than a transcript needs; uploads see to their own size
client    so many requests at once
headers   nothing from elsewhere runs in the page, nothing here is read by other pages
"""

import asyncio
import hashlib
import hmac
import ipaddress
import time
from collections import Counter, defaultdict, deque
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hvisk.serve.observe import Metrics, log
from hvisk.serve.problems import Problem, response
from hvisk.serve.settings import Settings

COOKIE = "hvisk"
OPEN_PATHS = ("/health", "/api/login")  # and the page itself, which holds nothing of anybody's
CLOSED_PREFIXES = ("/api/", "/v1/", "/metrics", "/openapi.json")
JSON_BYTES = 32 << 20  # a transcript of ten hours with its words has about 20
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
UPLOADS = ("/v1/audio/transcriptions", "/api/jobs")
STREAMS = ("/api/events", "/events")
GUESSES, GUESS_SECONDS = 10, 60.0  # wrong tokens from one address

POLICY = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(self)",
}


class Access:
    """An ASGI application around `app`."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._at_once: Counter[tuple[str, str]] = Counter()
        self._guesses: defaultdict[str, deque[float]] = defaultdict(deque)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in POLICY.items():
                    headers.setdefault(name, value)
                closed = scope["path"].startswith(CLOSED_PREFIXES)
                # Of the page a browser asks each time whether it is still the same: half of an update would break it.
                headers.setdefault("cache-control", "no-store" if closed else "no-cache")
                route = getattr(scope.get("route"), "path", "none")
                took = time.perf_counter() - began
                # Each label is kept for ever, and a client may call a method anything.
                method = scope["method"] if scope["method"] in METHODS else "other"
                self.metrics.requests.labels(method, route, status).observe(took)
                log("request", method=method, route=route, status=status, ms=round(1000 * took))
            await send(message)

        client = scope["client"][0] if scope.get("client") else "local"
        kind = _kind(scope)
        scope.setdefault("state", {}).update(client=client, judge=self.judge)
        try:
            self._admit(scope, client, kind)
        except Problem as problem:
            self.metrics.refused.labels(problem.code).inc()
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await response(problem)(scope, receive, answer)
            return
        self._at_once[client, kind] += 1
        try:
            await self.app(scope, self._measured(scope, receive), answer)
        finally:
            self._at_once[client, kind] -= 1
            if not self._at_once[client, kind]:
                del self._at_once[client, kind]

    def _admit(self, scope: Scope, client: str, kind: str) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._known(host):
            raise Problem(
                421,
                "This service does not answer to the host name that was asked for. Use an address, localhost, or a name "
                "given with --name.",
                code="unknown_host",
            )
        if scope["path"].startswith(CLOSED_PREFIXES):
            origin = headers.get("origin")
            if origin is not None and origin.partition("://")[2].lower() != host.lower():
                raise Problem(403, "Pages of other sites may not use this service.", code="foreign_origin")
            if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
                raise Problem(403, "Pages of other sites may not use this service.", code="foreign_origin")
        if self.settings.token and scope["path"].startswith(CLOSED_PREFIXES) and scope["path"] not in OPEN_PATHS:
            self._identify(headers, client)
        limits = self.settings.limits
        most = {"upload": limits.client_uploads, "stream": limits.client_streams}
        if kind in most and self._at_once[client, kind] >= most[kind]:
            raise Problem(
                429, f"There are {most[kind]} requests of this kind from {client} already.", code="busy", seconds=5
            )

    def _known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in map(str.lower, ("localhost", self.settings.host, *self.settings.names)):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # whoever rebinds a name can only do so under that name

    def _identify(self, headers: Headers, client: str) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given:
            self.judge(given.strip(), client)
            return
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is None or not hmac.compare_digest(cookie.value.encode(), cookie_value(self.settings.token).encode()):
            raise Problem(401, "A token is needed: send it as 'Authorization: Bearer TOKEN'.", code="invalid_api_key")

    def judge(self, given: str, client: str) -> None:
        """Raise Problem unless `given` is the token; after some wrong ones from one client, also if it is."""
        guesses, now = self._guesses[client], time.monotonic()
        while guesses and guesses[0] < now - GUESS_SECONDS:
            guesses.popleft()
        if len(guesses) >= GUESSES:
            raise Problem(429, "Too many wrong tokens. Wait a minute.", code="too_many_guesses", seconds=GUESS_SECONDS)
        if not hmac.compare_digest(given.encode(errors="replace"), self.settings.token.encode()):
            guesses.append(now)
            raise Problem(401, "The token is not the one that this service was started with.", code="invalid_api_key")
        if not guesses:
            del self._guesses[client]

    def _measured(self, scope: Scope, receive: Receive) -> Receive:
        """Return a `receive` that raises Problem for a body that comes too slowly, or is too large to be read whole."""
        if scope["type"] != "http":
            return receive
        limits, whole = self.settings.limits, _kind(scope) != "upload"
        began, size, complete = time.monotonic(), 0, False

        async def measured() -> Message:
            nonlocal size, complete
            if complete:  # from here on it only waits for the client to leave
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), limits.stall_seconds)
            except TimeoutError:
                raise Problem(408, f"Nothing came for {limits.stall_seconds:g} s.", code="too_slow") from None
            size += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            late = time.monotonic() - began - limits.stall_seconds
            if not complete and late > 0 and size < limits.least_rate * late:
                raise Problem(408, f"Less than {limits.least_rate:g} bytes a second came.", code="too_slow")
            if whole and size > JSON_BYTES:
                raise Problem(413, f"The request has more than {JSON_BYTES >> 20} MiB.", code="too_large")
            return message

        return measured


def cookie_value(token: str) -> str:
    """Return what the browser keeps: it opens the page's session, and does not tell the token."""
    return hashlib.sha256(b"hvisk page " + token.encode()).hexdigest()


def _kind(scope: Scope) -> str:
    if scope["type"] == "websocket":
        return ""  # serve.live counts them itself, when the browser can be told why one is refused
    if scope["method"] == "POST" and scope["path"] in UPLOADS:
        return "upload"
    return "stream" if scope["path"].endswith(STREAMS) else ""
