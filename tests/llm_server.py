"""A server with OpenAI's chat completions on this machine, for tests: it restores what it was taught, and misbehaves on demand.

with serving(truth) as server:        truth: bare text -> restored text
    server.faults.append(429)         what the next request meets instead of an answer
    server.brain = apologise          what it answers to a text, in place of the truth
"""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Brain = Callable[[str], str]


class Server(ThreadingHTTPServer):
    """What it does next, and what it was asked.

    faults: a status, "hang" (until the test ends) or "cut" (the connection breaks), one for each of the next requests.
    takes_schema: else a request with response_format is refused with 400, as by servers that know none; takes_temperature
    likewise. obeys: whether an answer against the schema is an error of the test. poison: a text that is refused wherever
    it stands. whole: the content of the answer in place of JSON.
    """

    daemon_threads = True

    def __init__(self, truth: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.brain: Brain = lambda text: truth.get(text, text)
        self.faults: list[int | str] = []
        self.takes_schema = self.takes_temperature = self.obeys = True
        self.poison = self.redirected = ""
        self.whole: Callable[[dict[str, str]], str] | None = None
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.violations: list[str] = []
        self.at_once = self.most_at_once = 0
        self.gather = 0  # requests that wait for one another, so that they are known to be under way together
        self.barrier = threading.Condition()
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The user's message of each request, as it was meant."""
        return [json.loads(body["messages"][-1]["content"]) for body in self.bodies]

    @property
    def texts(self) -> list[str]:
        """Every text of every request that was answered or refused, in their order."""
        return [text for asked in self.asked for text in asked["texts"].values()]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.barrier:
            server.bodies.append(body)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            server.barrier.notify_all()
            server.barrier.wait_for(lambda: server.most_at_once >= server.gather or server.ending.is_set())
            fault = server.faults.pop(0) if server.faults else 0
        try:
            self._answer(body, fault)
        finally:
            with server.barrier:
                server.at_once -= 1

    def _answer(self, body: dict[str, Any], fault: int | str) -> None:
        server = self.server
        texts = json.loads(body["messages"][-1]["content"])["texts"]
        if fault == "hang":
            server.ending.wait()
            self.close_connection = True
        elif fault == "page":  # what a proxy says, or a server at another path
            self._send(200, "<html>Welcome</html>", **{"Content-Type": "text/html"})
        elif fault == "cut":
            self.close_connection = True
            self.connection.shutdown(2)
        elif isinstance(fault, int) and 300 <= fault < 400:
            self._send(fault, {}, Location=server.redirected)
        elif fault:
            self._send(int(fault), {"error": {"message": f"no, said with {self.headers['Authorization']}"}})
        elif self.path != "/v1/chat/completions":
            self._send(404, {"error": {"message": f"no {self.path}"}})
        elif "response_format" in body and not server.takes_schema:
            self._send(400, {"error": {"message": "response_format is not known here"}})
        elif "temperature" in body and not server.takes_temperature:
            self._send(400, {"error": {"message": "this model takes no temperature"}})
        elif server.poison in texts.values():
            self._send(400, {"error": {"message": "this text is against our policy"}})
        else:
            said = {number: server.brain(text) for number, text in texts.items()}
            if "response_format" in body and server.obeys:
                form = body["response_format"]["json_schema"]["schema"]
                for number, text in said.items():
                    pattern = form["properties"][number].get("pattern", "")
                    if not re.search(pattern, text):
                        server.violations.append(text)
            content = server.whole(said) if server.whole else json.dumps(said, ensure_ascii=False)
            words = sum(len(text.split()) for text in texts.values())
            self._send(
                200,
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [
                        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
                    ],
                    "usage": {"prompt_tokens": 2 * words, "completion_tokens": words, "total_tokens": 3 * words},
                },
            )

    def _send(self, status: int, value: dict[str, Any] | str, **headers: str) -> None:
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "retry-after-ms": "1", **headers}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(truth: Mapping[str, str]) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(truth)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        with server.barrier:
            server.ending.set()
            server.barrier.notify_all()
        server.shutdown()
        server.server_close()
        thread.join()
