"""Models from a Hub that speaks the true one's protocol on loopback: fetched once, sparingly, and refused clearly."""

import contextlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from hvisk import files, models
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.export import ct2
from hvisk.recogniser.engine import Recogniser

COMMIT, OLD_COMMIT = "c0ffee" * 6 + "c0de", "0bad" * 10
REPO = "danmark/hvisk-tiny"


class Hub(http.server.ThreadingHTTPServer):
    """What huggingface_hub asks the true Hub for; `asked` holds every request. Repositories are directories."""

    request_queue_size = 64  # a connection that the default of 5 turns away comes again after a second

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.root = root
        self.asked: list[str] = []
        self.url, self.elsewhere = (f"http://{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))

    @property
    def files(self) -> list[str]:
        return sorted({line.split("/")[-1] for line in self.asked if re.match("GET .*/(resolve|cdn)/", line)})


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        if path.startswith("/cdn/"):
            return self.reply(200, (self.server.root / path.removeprefix("/cdn/")).read_bytes())
        found = re.fullmatch(r"(/api/models)?/(\w+/[\w-]+)(?:/(revision|tree|resolve)/([^/]+)(?:/(.+))?)?", path)
        if not found:
            return self.reply(404)
        _, repo, kind, revision, file = found.groups()
        directory = self.server.root / repo
        if repo.startswith("down/"):
            return self.reply(503)
        if not directory.is_dir():  # to strangers, what is private and what is not there look alike
            signed_in = "Authorization" in self.headers
            return self.reply(404, code="RepoNotFound") if signed_in else self.reply(401)
        if revision not in (None, "main", "v1", COMMIT, OLD_COMMIT):
            return self.reply(404, code="RevisionNotFound")
        commit = OLD_COMMIT if revision in ("v1", OLD_COMMIT) else COMMIT
        held = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        if kind == "resolve":
            return self.resolve(repo, file, held.get(file), {"X-Repo-Commit": commit})
        if kind == "tree":
            listed = [{"path": name, "size": len(held[name]), "oid": sha1(held[name]).hexdigest()} for name in held]
            return self.reply(200, [{"type": "file", **file} for file in listed])
        siblings = [{"rfilename": name} for name in held]
        return self.reply(200, {"_id": "1", "id": repo, "modelId": repo, "sha": commit, "siblings": siblings})

    do_HEAD = do_GET  # noqa: N815

    def resolve(self, repo: str, file: str, content: bytes | None, commit: dict[str, str]) -> None:
        if repo.startswith("gated/"):
            return self.reply(403 if "Authorization" in self.headers else 401, code="GatedRepo")
        if content is None:
            return self.reply(404, code="EntryNotFound", **commit)
        if file.endswith(".safetensors"):  # large files lie on another server
            linked = {"X-Linked-Etag": f'"{sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
            return self.reply(302, **commit, **linked, Location=f"{self.server.elsewhere}/cdn/{repo}/{file}")
        return self.reply(200, content, **commit, ETag=f'"{sha1(content).hexdigest()}"')

    def reply(self, status: int, body: Any = b"", *, code: str = "", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if code:
            headers["X-Error-Code"] = code
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one good repository, an empty cache, nobody signed in, and an empty directory to work in."""
    served = Hub(tmp_path / "hub")
    directory = Path(shutil.copytree(random_whisper, served.root / REPO))
    for name in ("README.md", "pytorch_model.bin", "model.fp32-00001-of-00002.safetensors", "state.pt"):
        (directory / name).write_text("large")
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    settings = {"ENDPOINT": served.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
    settings |= {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN_PATH": str(tmp_path / "no token")}
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "converted"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()
    huggingface_hub.close_session()


def same(left: Path, right: Path) -> bool:
    return all(files.sha256(left / file.name) == files.sha256(file) for file in right.iterdir())


def test_the_hub_is_asked_once_for_the_files_that_are_needed(hub: Hub, random_whisper: Path) -> None:
    first = models.hugging_face(REPO)
    assert same(first, random_whisper)
    assert set(hub.files) == {file.name for file in random_whisper.iterdir()}
    assert hub.asked[-1] == f"GET /cdn/{REPO}/model.safetensors"
    hub.asked.clear()
    assert models.hugging_face(REPO) == models.hugging_face(f"{REPO}@main") == first
    assert models.recognisable(REPO) == models.recognisable(str(random_whisper))
    assert hub.asked == []


def test_a_revision_may_be_named(hub: Hub) -> None:
    old = models.hugging_face(f"{REPO}@v1")
    assert old.name == OLD_COMMIT
    assert models.hugging_face(REPO).name == COMMIT
    hub.asked.clear()
    assert models.hugging_face(f"{REPO}@{OLD_COMMIT}") == models.hugging_face(f"{REPO}@v1") == old
    assert hub.asked == []
    with pytest.raises(ModelError, match=f"{REPO} has no revision 'v9'.*{hub.url}/{REPO}/tree"):
        models.hugging_face(f"{REPO}@v9")


def test_weights_in_parts_are_fetched_whole(hub: Hub) -> None:
    directory = hub.root / REPO
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (directory / "model.safetensors").rename(directory / parts[0])
    (directory / parts[1]).write_text("second")
    files.write_json(directory / "model.safetensors.index.json", {"weight_map": {"a": parts[0], "b": parts[1]}})
    assert [file.name for file in ct2.weight_files(models.hugging_face(REPO))] == parts
    assert "model.fp32-00001-of-00002.safetensors" not in hub.files


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize("by", ["hvisk", "another tool"])
def test_what_is_cached_in_part_is_completed(hub: Hub, random_whisper: Path, lost: str, by: str) -> None:
    lost_too = "vocab.json"
    if by == "hvisk":
        directory = models.hugging_face(REPO)
        for name in (lost, lost_too):
            (directory / name).unlink()
    else:  # which fetches what it needs, file by file
        for name in sorted({path.name for path in random_whisper.iterdir()} - {lost, lost_too}):
            huggingface_hub.hf_hub_download(REPO, name)
    assert same(models.hugging_face(REPO), random_whisper)


@pytest.mark.parametrize("name", ["secret/model", f"{REPO}-typo"])
@pytest.mark.parametrize("token", [None, "hf_hemmelig"])
def test_what_the_hub_does_not_show_is_explained(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    message = f"'{name}' is no directory here, and {hub.url} shows.*visit {hub.url}/{name} and.*hf auth login"
    with pytest.raises(ModelError, match=message):
        models.recognisable(name)


@pytest.mark.parametrize("token", [None, "hf_hemmelig"])
def test_a_gated_model_names_the_page_to_ask_at(
    hub: Hub, random_whisper: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    shutil.copytree(random_whisper, hub.root / "gated" / "model")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ModelError, match=f"Ask at {hub.url}/gated/model, then log in here with: hf auth login"):
        models.hugging_face("gated/model")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["config.json", "tokenizer.json"], r"no model\.safetensors"),
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "only pickled weights.*run any code"),
        (["config.json", "tokenizer.json", "model.bin"], "a CTranslate2 model; fetch it with hf download"),
        (["tokenizer.json", "model.safetensors"], r"no config\.json"),
        (["config.json", "vocab.json", "model.safetensors"], r"neither tokenizer\.json nor vocab\.json with merges"),
    ],
)
def test_a_repository_without_a_readable_whisper_is_not_downloaded(hub: Hub, files: list[str], message: str) -> None:
    (hub.root / "other" / "model").mkdir(parents=True)
    for name in files:
        (hub.root / "other" / "model" / name).write_text("{}")
    with pytest.raises(ModelError, match=f"repository other/model is no Whisper that hvisk can read: .*{message}"):
        models.hugging_face("other/model")
    assert hub.files == []


@pytest.mark.parametrize("fault", ["no network", "offline", "hub down"])
def test_without_the_hub_what_is_cached_works_and_the_rest_says_how_to_get_a_model(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    here = models.hugging_face(REPO)
    name = "down/model" if fault == "hub down" else "danmark/hvisk-base"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", fault == "offline")
    with contextlib.ExitStack() as stack:
        if fault == "no network":
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))  # and nobody listens
            monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert models.hugging_face(REPO) == here
        with pytest.raises(ModelError, match=r"not in the cache.*cannot be fetched.*OFFLINE.*hvisk demo") as caught:
            models.hugging_face(name)
    assert "\n" not in str(caught.value)


LISTENER = """
import json, sys
import numpy as np

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in json.loads(sys.argv[3]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from hvisk import files, models
from hvisk.recogniser.engine import Recogniser

(result,) = Recogniser.load(models.recognisable(sys.argv[1])).recognise([np.load(sys.argv[2])])
print(json.dumps([result.tokens, sorted(sys.modules.keys() & {"torch", "transformers", "datasets", "accelerate"})]))
"""


def test_from_the_hub_s_name_to_a_text_without_torch_and_then_without_the_hub(
    hub: Hub, random_ct2: Path, tmp_path: Path
) -> None:
    clip = speak("Jeg elsker tebirkes.", voice="m3")
    np.save(tmp_path / "clip.npy", clip)
    (expected,) = Recogniser.load(random_ct2).recognise([clip])
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}

    def listen(absent: list[str]) -> Any:
        command = [sys.executable, "-W", "error", "-c", LISTENER, REPO, str(tmp_path / "clip.npy"), json.dumps(absent)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert listen(["torch", "transformers", "datasets", "accelerate"]) == [list(expected.tokens), []]
    assert "model.safetensors" in hub.files
    hub.asked.clear()
    assert listen([]) == [list(expected.tokens), []]  # and where torch is installed, it stays unloaded
    assert hub.asked == []
