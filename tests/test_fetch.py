"""Recordings on the network: only for those who ask, whole or not at all, and never at the expense of the others."""

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hvisk import audio, cli
from hvisk.errors import AudioError
from hvisk.recogniser import batch, fetch, inputs
from serve_server import said

SOUND = said("Jeg elsker tebirkes.")


class Handler(BaseHTTPRequestHandler):
    """Serves SOUND under every path; /busy fails once, /cut always breaks off, /gone is not there, /moved leads to /a.flac."""

    asked: list[str]
    busy: set[str]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        name = self.path.partition("?")[0]
        if name == "/gone.flac":
            self.send_error(404)
        elif name == "/busy.flac" and self.server.asked.count(self.path) == 1:  # type: ignore[attr-defined]
            self.send_error(503)
        elif name == "/moved":
            self.send_response(302)
            self.send_header("Location", "/a.flac")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(SOUND)))
            self.end_headers()
            self.wfile.write(SOUND[: len(SOUND) // 2] if name == "/cut.flac" else SOUND)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture
def url(server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(fetch, "REST_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("https://dr.dk/a/b.mp3?x=1", "https://dr.dk/a/b.mp3?x=1"),
        ("HTTP://dr.dk/b.mp3", "HTTP://dr.dk/b.mp3"),
        ("https.mp3", None),
        ("ftp://dr.dk/b.mp3", None),
        ("http:", None),
        ("-", None),
    ],
)
def test_an_address_is_told_from_a_file(name: str, found: str | None) -> None:
    assert fetch.address(Path(name)) == found


def test_nothing_is_asked_of_the_network_without_permission(server: Any, url: str, silent_ct2: Path) -> None:
    done = CliRunner().invoke(cli.app, ["transcribe", f"{url}/a.flac", "--model", str(silent_ct2)])
    assert isinstance(done.exception, AudioError)
    assert f"{url}/a.flac is on the network" in str(done.exception)
    assert "--fetch" in str(done.exception)
    assert server.asked == []


def test_what_is_fetched_becomes_a_file_of_its_name_and_a_broken_one_costs_itself_alone(
    server: Any, url: str, silent_ct2: Path, tmp_path: Path
) -> None:
    names = [f"{url}/{name}" for name in ("inner/m%C3%B8de.flac?id=3", "gone.flac", "busy.flac", "moved", "cut.flac")]
    command = ["transcribe", *names, "--fetch", "--model", str(silent_ct2), "--out", str(tmp_path), "--no-guards"]
    done = CliRunner().invoke(cli.app, [*command, "--format", "json"])
    assert done.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["busy.json", "moved.json", "møde.json"]
    seconds = json.loads((tmp_path / "møde.json").read_text())["seconds"]
    assert seconds == pytest.approx(audio.seconds(audio.decode(SOUND)), abs=0.01)
    told = " ".join(done.stderr.split())
    assert f"{url}/gone.flac cannot be fetched: the server answers 404" in told
    assert f"{url}/cut.flac cannot be fetched" in told
    assert "2 of 5 files" in told
    assert server.asked.count("/cut.flac") == fetch.TRIES
    assert server.asked.count("/gone.flac") == 1
    asked = len(server.asked)
    CliRunner().invoke(cli.app, [*command[:2], "--fetch", *command[7:], "--format", "json"])
    assert len(server.asked) == asked  # what is there already is not fetched again


def test_what_was_fetched_is_deleted_and_a_web_page_is_no_recording(server: Any, url: str) -> None:
    quiet = Console(file=io.StringIO())
    with inputs.opened(Path(f"{url}/a.flac"), quiet) as path:
        assert path.read_bytes() == SOUND
    assert not path.exists()
    with pytest.raises(AudioError, match="cannot be fetched"), inputs.opened(Path("http://127.0.0.1:1/a.flac"), quiet):
        pass
    assert batch.destination(Path("out"), Path(f"{url}/"), "txt", None).name == "recording.txt"
