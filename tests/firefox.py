"""A real Firefox for tests, driven by WebDriver BiDi (w3.org/TR/webdriver-bidi), which it speaks by itself over a WebSocket."""

import contextlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

PATIENCE = 60.0  # seconds; a busy machine is slow
LOOK_SECONDS = 0.05
PREFERENCES = {
    "intl.accept_languages": "en-GB",
    "media.navigator.streams.fake": True,  # a tone in place of a microphone
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "layout.css.prefers-color-scheme.content-override": 0,  # dark
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.update.enabled": False,
}
KEYS = {"Control": "\ue009", "Enter": "\ue007"}


class Firefox:
    """One window. errors: what pages told the console of errors and warnings."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.number, self.errors = socket, 0, list[str]()
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded"])
        self.window = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come before it are noted."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE))
            if message.get("method") == "log.entryAdded":
                entry = message["params"]
                if entry["level"] in ("error", "warn"):
                    self.errors.append(str(entry["text"]))
            elif message.get("id") == self.number:
                assert message["type"] == "success", message
                return dict(message["result"])

    def go(self, url: str) -> None:
        self.call("browsingContext.navigate", context=self.window, url=url, wait="complete")

    def reload(self) -> None:
        self.call("browsingContext.reload", context=self.window, wait="complete")

    def size(self, width: int, height: int) -> None:
        self.call("browsingContext.setViewport", context=self.window, viewport={"width": width, "height": height})

    def run(self, expression: str) -> Any:
        """Return what a JavaScript expression, or the promise that it gives, comes to."""
        found = self._evaluated(f"Promise.resolve({expression}).then((v) => JSON.stringify(v) ?? 'null')")
        return json.loads(found["value"])

    def becomes(self, expression: str) -> Any:
        """Wait until an expression is true, and return it."""
        until = time.monotonic() + PATIENCE
        while not (found := self.run(expression)):
            assert time.monotonic() < until, f"never came true: {expression}"
            time.sleep(LOOK_SECONDS)
        return found

    def node(self, selector: str) -> dict[str, str]:
        """Wait for an element that can be seen, or for a field for files."""
        shown = f"((n) => n && (n.type === 'file' || n.checkVisibility()))(document.querySelector({selector!r}))"
        self.becomes(shown)
        return {"sharedId": self._evaluated(f"document.querySelector({selector!r})")["sharedId"]}

    def click(self, selector: str) -> None:
        self.node(selector)
        self._evaluated(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        origin = {"type": "element", "element": self.node(selector)}
        moves = [
            {"type": "pointerMove", "x": 0, "y": 0, "origin": origin},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self.call(
            "input.performActions", context=self.window, actions=[{"type": "pointer", "id": "mouse", "actions": moves}]
        )

    def type(self, *texts: str) -> None:
        """Press keys, one after the other; Control+x is held together."""
        strokes: list[dict[str, str]] = []
        for text in texts:
            if held := re.fullmatch(r"Control\+(.)", text):
                pairs = (("keyDown", "Control"), ("keyDown", held[1]), ("keyUp", held[1]), ("keyUp", "Control"))
                strokes += [{"type": kind, "value": KEYS.get(key, key)} for kind, key in pairs]
            else:
                for key in [KEYS[text]] if text in KEYS else text:
                    strokes += [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.call(
            "input.performActions", context=self.window, actions=[{"type": "key", "id": "keys", "actions": strokes}]
        )

    def files(self, selector: str, *paths: Path) -> None:
        node = self.node(selector)
        self.call("input.setFiles", context=self.window, element=node, files=[str(path) for path in paths])

    def _evaluated(self, expression: str) -> dict[str, Any]:
        result = self.call("script.evaluate", expression=expression, target={"context": self.window}, awaitPromise=True)
        assert result["type"] == "success", (expression, result.get("exceptionDetails"))
        return dict(result["result"])


@contextlib.contextmanager
def launched(profile: Path) -> Iterator[Firefox]:
    """Start the machine's Firefox without a screen, with a profile of its own."""
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    if found is None:
        pytest.fail(
            "The page is tested in a real Firefox, and neither firefox-esr nor firefox is on the PATH. "
            "Install one: apt-get update && apt-get install -y firefox-esr"
        )
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (profile / "user.js").write_text("\n".join(lines), encoding="utf-8")
    command = [found, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        address = next(filter(None, (re.search(r"ws://127\.0\.0\.1:\d+", line) for line in process.stderr)))
        with process.stderr, connect(f"{address[0]}/session", max_size=None, proxy=None) as socket:
            yield Firefox(socket)
    finally:
        process.terminate()
        process.wait()
