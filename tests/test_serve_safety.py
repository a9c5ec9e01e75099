"""What must not get through to hvisk serve, each tried as somebody would: by hand-made requests on a socket."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import httpx2
import numpy as np
import pytest
import soundfile
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from hvisk.errors import AudioError, HviskError
from hvisk.serve.chapters import Options, Recording
from hvisk.serve.settings import Settings, check
from hvisk.serve.uploads import shown
from serve_server import MAIN, Served, running, said

TOKEN = "et-langt-og-hemmeligt-ord"


@pytest.fixture(scope="module")
def served(silent_ct2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with a token, and with limits that a test can reach."""
    data = tmp_path_factory.mktemp("serve")
    arguments = ("--max-file", "2", "--max-hours", "0.1", "--name", "Tale.Example")
    with running(silent_ct2, data, *arguments, HVISK_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[httpx2.Client]:
    with served.client(headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def raw(served: Served, request: bytes) -> bytes:
    """What the service answers to these bytes."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def error(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_another_address_than_this_machines_needs_a_token_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(HviskError, match="HVISK_TOKEN"):
        check(Settings(tmp_path, host="0.0.0.0"))
    with pytest.raises(HviskError, match="has 4 characters"):
        check(Settings(tmp_path, host="0.0.0.0", token="kort"))
    check(Settings(tmp_path, host="0.0.0.0", token=TOKEN))
    for host in ("127.0.0.1", "::1", "localhost"):
        check(Settings(tmp_path, host=host))


def test_without_the_token_there_is_nothing_but_health(served: Served) -> None:
    with served.client() as stranger:
        paths = ("/v1/models", "/api/jobs", "/api/about", "/metrics", "/openapi.json", "/api/events")
        assert {error(stranger.get(path)) for path in paths} == {(401, "invalid_api_key")}
        assert stranger.get("/health").status_code == 200
        wrong = {"authorization": f"Bearer {TOKEN}x"}
        assert error(stranger.get("/v1/models", headers=wrong)) == (401, "invalid_api_key")
        with pytest.raises(InvalidStatus):
            connect(f"ws{served.url[4:]}/api/live", proxy=None)


def test_the_page_logs_in_and_its_cookie_does_not_tell_the_token(served: Served) -> None:
    with served.client() as browser:
        assert error(browser.post("/api/login", json={"token": "x"})) == (401, "invalid_api_key")
        done = browser.post("/api/login", json={"token": TOKEN})
        assert done.status_code == 204
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert TOKEN not in cookie
        assert browser.get("/api/jobs").status_code == 200
        with served.client(cookies={"hvisk": "a" * 64}) as forger:
            assert error(forger.get("/api/jobs")) == (401, "invalid_api_key")


def test_a_rebound_name_is_refused_and_a_given_one_is_not(client: httpx2.Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "[::1", ""):
        assert error(client.get("/v1/models", headers={"host": host})) == (421, "unknown_host"), host
    for host in ("localhost:1234", "127.0.0.1", "[::1]:80", "tale.example", "10.0.0.7:8177", "LOCALHOST"):
        assert client.get("/v1/models", headers={"host": host}).status_code == 200, host


def test_another_sites_page_can_do_nothing(client: httpx2.Client, served: Served) -> None:
    sound = {"files": ("a.flac", b"x")}
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000"},
        {"origin": "http://["},  # no address at all
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert error(client.post("/api/jobs", files=sound, headers=headers)) == (403, "foreign_origin"), headers
        assert error(client.get("/api/jobs", headers=headers)) == (403, "foreign_origin"), headers
    assert client.get("/api/jobs", headers={"origin": served.url, "sec-fetch-site": "same-origin"}).status_code == 200
    headers = {"authorization": f"Bearer {TOKEN}"}
    with pytest.raises(InvalidStatus):
        connect(f"ws{served.url[4:]}/api/live", proxy=None, origin="https://evil.example", additional_headers=headers)


def test_a_page_that_is_served_can_load_nothing_from_elsewhere(client: httpx2.Client) -> None:
    headers = client.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
    assert client.get("/api/jobs").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/jobs/..%2f..%2fserver/audio", "//etc/passwd"]
)
def test_no_path_leads_out(served: Served, path: str) -> None:
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    answer = raw(served, head.encode())
    assert answer.split()[1] in (b"400", b"404")
    assert b"root:" not in answer


def test_a_hostile_name_is_text_and_never_a_path(client: httpx2.Client, served: Served) -> None:
    outside = served.data.parent / "outside.flac"
    for name in ("../../outside.flac", "..\\..\\outside.flac", str(outside), "outside.flac\x00.txt", "…/" * 300, ".."):
        made = client.post("/api/jobs", files={"files": (name, b"not a sound")})
        (job,) = made.json()["jobs"]
        assert not set(job["name"]) & set("/\\\x00\n")
        assert 0 < len(job["name"]) <= 200
    assert not outside.exists()
    assert all(re.fullmatch("[0-9a-f]{32}", path.name) for path in (served.data / "audio").iterdir())
    assert shown("a\u202egpj.exe\r\nSet-Cookie: x") == "agpj.exeSet-Cookie: x"
    assert shown("../..") == "recording"
    assert shown("møde å.m4a") == "møde å.m4a"


def test_what_is_too_large_or_no_form_is_refused_and_leaves_no_file(client: httpx2.Client, served: Served) -> None:
    before = set((served.data / "audio").iterdir())
    large = client.post("/api/jobs", files={"files": ("a.wav", bytes(3 << 20))})
    assert error(large) == (413, "too_large")
    assert error(client.post("/api/jobs", json={})) == (415, "not_multipart")
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\nabc"):
        assert client.post("/api/jobs", content=body, headers=kind).status_code == 400
    assert client.post("/api/jobs", data={f"f{n}": "x" for n in range(1200)}, files={"a": b""}).status_code == 413
    assert client.post("/api/login", content=b"x" * (33 << 20)).status_code == 413
    assert set((served.data / "audio").iterdir()) == before


def test_a_few_bytes_that_unfold_to_hours_are_given_up_early(tmp_path: Path, client: httpx2.Client) -> None:
    bomb = tmp_path / "bomb.flac"
    # Twelve minutes of digital silence at 8 kHz: 28 bytes a second. Longer ones only take longer to make.
    soundfile.write(bomb, np.zeros(8000 * 60 * 12, np.int16), 8000)
    assert bomb.stat().st_size < 30_000
    with pytest.raises(AudioError, match="unfolds to far more sound"):
        Recording(bomb, "bomb.flac", Options(), 1e6).chapter(True)
    # One whose header is silent about its length is decoded until it is too much.
    streamed = tmp_path / "streamed.flac"
    streamed.write_bytes(
        bomb.read_bytes()[:21] + bytes([bomb.read_bytes()[21] & 0xF0, 0, 0, 0, 0]) + bomb.read_bytes()[26:]
    )
    recording = Recording(streamed, "streamed.flac", Options(), 1e6)
    assert not recording.declared
    with pytest.raises(AudioError, match="unfolds to far more sound"):
        list(iter(lambda: recording.chapter(True), None))
    (job,) = client.post("/api/jobs", files={"files": ("bomb.flac", bomb.read_bytes())}).json()["jobs"]
    with client.stream("GET", f"/api/jobs/{job['id']}/events") as response:
        assert "longer than the 0.1 hours" in response.read().decode()


def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(silent_ct2: Path, tmp_path: Path) -> None:
    """With half a second of patience, where a service has ten and twenty."""
    code = f"""
import sys
from pathlib import Path
from hvisk.serve import server
from hvisk.serve.settings import Limits, Settings
server.HEAD_SECONDS = 0.5
limits = Limits(stall_seconds=0.5, least_rate=1e6)
settings = Settings(Path({str(tmp_path)!r}), {str(silent_ct2)!r}, port=0, limits=limits)
server.serve(settings, lambda port: print(port, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        head = b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        body = b"Content-Length: 999999\r\n\r\n--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n"
        assert dripped(port, head, b"X") == b""
        assert b"408" in dripped(port, head + body, b"")
        assert b"Less than" in dripped(port, head + body, b"X")
        process.send_signal(signal.SIGTERM)
    assert not list((tmp_path / "audio").iterdir())


def dripped(port: int, first: bytes, then: bytes) -> bytes:
    """What is answered to a client that sends `first`, then a byte ten times a second, until it is cut off."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as connection:
        connection.sendall(first)
        answer = b""
        while True:
            try:
                part = connection.recv(65536)
                if not part:
                    return answer
                answer += part
            except TimeoutError:
                if then:
                    connection.sendall(then)
            except ConnectionError:
                return answer


def test_who_guesses_tokens_is_locked_out_for_a_while_and_nobody_else_is(client: httpx2.Client, served: Served) -> None:
    wrong, right = ({"authorization": f"Bearer {token}"} for token in ("nej", TOKEN))
    with served.client(transport=httpx2.HTTPTransport(local_address="127.0.0.9")) as guesser:
        for _ in range(10):
            assert error(guesser.get("/v1/models", headers=wrong)) == (401, "invalid_api_key")
        last = guesser.get("/v1/models", headers=right)
    assert error(last) == (429, "too_many_guesses")
    assert int(last.headers["retry-after"]) > 0
    assert client.get("/v1/models").status_code == 200


def test_a_client_has_two_live_sessions_and_hears_why_it_has_no_third(served: Served) -> None:
    refused = pytest.raises(ConnectionClosedError, match="2 live sessions from")
    with live(served, "127.0.0.1"), live(served, "127.0.0.1"), live(served, "127.0.0.1") as third, refused:
        third.recv()
    gone(served)


def test_four_live_sessions_are_taken_and_no_more_however_many_ask_at_once(served: Served) -> None:
    """Two each of three clients at the same moment: none begins before all are counted."""
    told: list[str] = []
    together = threading.Barrier(6, timeout=60)

    def listen(address: str) -> None:
        with live(served, address) as socket:
            together.wait()
            told.append(json.loads(socket.recv())["type"])
            together.wait()  # all are open until all are answered

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(listen, [f"127.0.0.{n // 2 + 1}" for n in range(6)]))
    assert sorted(told) == ["error"] * 2 + ["ready"] * 4
    gone(served)


def live(served: Served, address: str) -> ClientConnection:
    """A live session of a client at this address."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), source_address=(address, 0))
    headers = {"authorization": f"Bearer {TOKEN}"}
    return connect(f"ws{served.url[4:]}/api/live?format=pcm16", sock=connection, additional_headers=headers, proxy=None)


def gone(served: Served) -> None:
    """Wait until every live session has ended."""
    served.told(lambda names: names.count("live begun") == names.count("live ended"))


def test_a_client_that_first_sends_all_and_then_listens_hears_that_it_is_too_much(served: Served) -> None:
    head = f"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 50000000\r\n\r\n"
    part = b"--x\r\nContent-Disposition: form-data; name=files; filename=a\r\n\r\n"
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + part + bytes(50_000_000 - len(part)))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"larger than the 2 MiB that are accepted" in answer


def test_a_method_of_the_clients_own_is_no_label_of_its_own(client: httpx2.Client) -> None:
    assert client.request("BREW", "/api/jobs").status_code == 405
    text = client.get("/metrics").text
    assert 'method="other"' in text
    assert "BREW" not in text


def test_the_page_is_opened_with_the_token_whatever_is_in_it(silent_ct2: Path, tmp_path: Path) -> None:
    token = "a/b#c?d&e+f %20 g"
    opened = tmp_path / "opened"
    viewer = tmp_path / "viewer"
    viewer.write_text(f'#!/bin/sh\nprintf %s "$1" > {opened}.part && mv {opened}.part {opened}\n')
    viewer.chmod(0o755)
    shown = {"DISPLAY": ":0", "BROWSER": f"{viewer} %s", "HVISK_TOKEN": token}
    with running(silent_ct2, tmp_path / "data", "--open", **shown):
        address, _, fragment = opened.read_text().partition("#token=")
    assert re.fullmatch(r"http://localhost:\d+/", address)
    assert re.fullmatch(r"[\w.%~-]+", fragment)
    assert unquote(fragment) == token


def test_nothing_is_sent_anywhere(random_ct2: Path, tmp_path: Path) -> None:
    """Each system call of server, worker and live process that opens a connection, seen by the kernel."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.fail("strace is not on the PATH. Install it: apt-get update && apt-get install -y strace")
    log = tmp_path / "calls"
    command = [strace, "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg", "-o", str(log)]
    command += [sys.executable, "-c", MAIN, "--model", str(random_ct2), "--data", str(tmp_path / "data"), "--port", "0"]
    command += ["--no-open", "--workers", "1", "--no-guards", "--beam-size", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert process.stdout
        url = process.stdout.readline().strip().rstrip("/")
        with httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
            sound = {"file": ("a.flac", said("Jeg elsker tebirkes."))}
            done = client.post("/v1/audio/transcriptions", files=sound, data={"model": "m", "response_format": "srt"})
            assert done.status_code == 200, done.text
        with connect(f"ws{url[4:]}/api/live?format=pcm16", proxy=None) as live:
            live.send(bytes(32000))
            live.send('{"type": "end"}')
            assert "end" in list(live)[-1]
    finally:
        (server,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(server), signal.SIGTERM)
        process.communicate(timeout=60)
    connections = [line for line in log.read_text().splitlines() if " connect(" in line]
    assert not [line for line in connections if "AF_INET" in line]
    assert "sin_addr" not in log.read_text()
