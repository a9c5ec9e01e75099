"""A Hub on loopback that speaks the true one's protocol, for models and datasets, with faults on demand.

Models are directories under `root`. Datasets are published: each state gets a commit, and old ones are still served.
"""

import contextlib
import http.server
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from huggingface_hub import close_session, constants

COMMIT, OLD_COMMIT = "c0ffee" * 6 + "c0de", "0bad" * 10  # of models
ROUTE = re.compile(
    r"(?P<api>/api)?/(?:(?P<kind>models|datasets)/)?(?P<repo>[\w.-]+/[\w.-]+)"
    r"(?:/(?P<verb>revision|tree|resolve|paths-info)/(?P<revision>[^/]+)(?:/(?P<file>.+))?)?"
)


@dataclass
class Fault:
    """What goes wrong with the next requests whose line matches: an answer with an error, one cut after some bytes, or one
    that is held back until `release`, having set `reached`."""

    match: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    times: int = 1
    release: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)


class Hub(http.server.ThreadingHTTPServer):
    """What huggingface_hub and datasets ask the true Hub for; `asked` holds every request."""

    request_queue_size = 64  # a connection that the default of 5 turns away comes again after a second

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.root = root
        self.asked: list[str] = []
        self.faults: list[Fault] = []
        self.commits: dict[tuple[str, str], dict[str, bytes]] = {}  # (dataset, commit)
        self.branches: dict[tuple[str, str], str] = {}  # (dataset, branch) -> commit
        self.cards: dict[str, dict[str, Any]] = {}
        self.url, self.elsewhere = (f"http://{name}:{self.server_port}" for name in ("127.0.0.1", "localhost"))

    @property
    def files(self) -> list[str]:
        return sorted(
            {line.split()[1].split("/")[-1] for line in self.asked if re.match("GET .*/(resolve|cdn)/", line)}
        )

    def publish(
        self, repo: str, files: dict[str, bytes], *, branch: str = "main", card: dict[str, Any] | None = None
    ) -> str:
        """Make these files the newest state of a dataset's branch, and return its commit."""
        commit = sha1(b"".join(name.encode() + content for name, content in files.items())).hexdigest()
        self.commits[repo, commit] = files
        self.branches[repo, branch] = commit
        self.cards[repo] = card or {}
        return commit

    def wrong(self, line: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and re.search(fault.match, line):
                fault.times -= 1
                return fault
        return None


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub
    cut = -1

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = f"{self.command} {path}" + (f" {self.headers['Range']}" if "Range" in self.headers else "")
        self.server.asked.append(asked)
        self.cut = -1
        if fault := self.server.wrong(asked):
            if fault.status:
                return self.reply(fault.status, **fault.headers)
            self.cut = fault.cut
            fault.reached.set()
            if fault.release:
                fault.release.wait()
        if path.startswith("/cdn/datasets/"):
            _, _, _, owner, name, commit, file = path.split("/", 6)
            return self.content(self.server.commits[f"{owner}/{name}", commit][file])
        if path.startswith("/cdn/"):
            return self.content((self.server.root / path.removeprefix("/cdn/")).read_bytes())
        # The slash in refs/convert/parquet comes quoted, and is told from a path's before it is read.
        found = ROUTE.fullmatch(urlsplit(self.path).path)
        if not found:
            return self.reply(404)
        asked_for = {name: unquote(value or "") for name, value in found.groupdict().items()}
        if asked_for["repo"].startswith("down/"):
            return self.reply(503)
        if asked_for["kind"] == "datasets":
            return self.dataset(**asked_for)
        return self.model(**asked_for)

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.paths = parse_qs(body).get("paths") or ([] if "=" in body else json.loads(body or "{}").get("paths", []))
        self.do_GET()

    def model(self, repo: str, verb: str, revision: str, file: str, **_: str) -> None:
        directory = self.server.root / repo
        if not directory.is_dir():
            return self.unseen()
        if revision not in ("", "main", "v1", COMMIT, OLD_COMMIT):
            return self.reply(404, code="RevisionNotFound")
        commit = OLD_COMMIT if revision in ("v1", OLD_COMMIT) else COMMIT
        held = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        if verb == "resolve":
            elsewhere = f"{self.server.elsewhere}/cdn/{repo}/{file}" if file.endswith(".safetensors") else ""
            return self.resolve(repo, held.get(file), commit, elsewhere)
        if verb == "tree":
            return self.reply(200, [entry(name, content) for name, content in held.items()])
        siblings = [{"rfilename": name, "size": len(content)} for name, content in held.items()]
        about = {"_id": "1", "id": repo, "modelId": repo, "sha": commit, "siblings": siblings}
        if licence := re.search(rb"^license: (.+)$", held.get("README.md", b""), re.MULTILINE):
            about["cardData"] = {"license": licence[1].decode()}
        return self.reply(200, about)

    def dataset(self, repo: str, verb: str, revision: str, file: str, **_: str) -> None:
        if not any(name == repo for name, _ in self.server.branches):
            return self.unseen()
        commit = self.server.branches.get((repo, revision or "main"), revision)
        held = self.server.commits.get((repo, commit))
        if held is None:
            return self.reply(404, code="RevisionNotFound")
        if verb == "resolve":
            return self.resolve(
                repo, held.get(file), commit, f"{self.server.elsewhere}/cdn/datasets/{repo}/{commit}/{file}"
            )
        if verb in ("tree", "paths-info"):
            listed = [entry(name, content) for name, content in held.items()]
            folders = {name[: at.start()] for name in held for at in re.finditer("/", name)}
            listed += [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]
            if verb == "paths-info":
                return self.reply(200, [one for one in listed if one["path"] in self.paths])
            if file and file not in folders:
                return self.reply(404, code="EntryNotFound")
            inside = [one for one in listed if one["path"].startswith(f"{file}/" if file else "")]
            if parse_qs(urlsplit(self.path).query).get("recursive") != ["True"]:
                inside = [one for one in inside if "/" not in one["path"][len(f"{file}/" if file else "") :]]
            return self.reply(200, inside)
        siblings = [{"rfilename": name, "size": len(content), "blobId": "0"} for name, content in held.items()]
        about = {"_id": "1", "id": repo, "sha": commit, "siblings": siblings, "private": False, "disabled": False}
        about |= {"gated": repo.startswith("gated/"), "downloads": 0, "likes": 0, "tags": []}
        return self.reply(200, {**about, "cardData": self.server.cards[repo]})

    def unseen(self) -> None:
        """To strangers, what is private and what is not there look alike."""
        return self.reply(404, code="RepoNotFound") if "Authorization" in self.headers else self.reply(401)

    def resolve(self, repo: str, content: bytes | None, commit: str, elsewhere: str) -> None:
        told = {"X-Repo-Commit": commit}
        if repo.startswith("gated/"):
            return self.reply(403 if "Authorization" in self.headers else 401, code="GatedRepo")
        if content is None:
            return self.reply(404, code="EntryNotFound", **told)
        if elsewhere:  # large files lie on another server
            linked = {"X-Linked-Etag": f'"{sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
            return self.reply(302, **told, **linked, Location=elsewhere)
        return self.reply(200, content, **told, ETag=f'"{sha1(content).hexdigest()}"')

    def content(self, held: bytes) -> None:
        """A file's bytes, or those that Range asks for; the key of a signed-in user is nothing that this server may see."""
        assert "Authorization" not in self.headers
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.reply(200, held)
        start, end = int(asked[1]), int(asked[2] or len(held) - 1)
        return self.reply(
            206, held[start : end + 1], **{"Content-Range": f"bytes {start}-{min(end, len(held) - 1)}/{len(held)}"}
        )

    def reply(self, status: int, body: Any = b"", *, code: str = "", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if code:
            headers["X-Error-Code"] = code
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):  # of a client that was killed
                self.wfile.write(content[: self.cut] if self.cut >= 0 else content)

    def log_message(self, *_: object) -> None:
        pass


def entry(name: str, content: bytes) -> dict[str, Any]:
    large = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return {"type": "file", "path": name, "size": len(content), "oid": sha1(content).hexdigest(), "lfs": large}


@contextlib.contextmanager
def serving(root: Path) -> Iterator[Hub]:
    """A Hub that answers until the block ends."""
    served = Hub(root)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        for fault in served.faults:
            if fault.release:
                fault.release.set()
        served.shutdown()
        thread.join()
        served.server_close()
        close_session()


def sign_out_at(served: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `served` this process's Hub, with nobody signed in and no proxy between."""
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    settings = {"ENDPOINT": served.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False}
    settings |= {"HF_HUB_CACHE": str(folder / "cache"), "HF_TOKEN_PATH": str(folder / "no token")}
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def clip(number: int, seconds: float = 0.5, rate: int = 48_000) -> bytes:
    """A WAV file in which a tone sounds that is different for each number."""
    time = np.arange(int(seconds * rate)) / rate
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * (200 + 10 * number) * time), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def parquet(rows: Sequence[dict[str, Any]], *, group: int = 4) -> bytes:
    """A Parquet file as `datasets` uploads it: sound as bytes, its features in the schema, `group` rows a row group."""
    features: dict[str, Any] = {"audio": {"_type": "Audio", "sampling_rate": 48_000}}
    fields = []
    for name, value in rows[0].items():
        if name == "audio":
            fields.append(pa.field("audio", pa.struct({"bytes": pa.binary(), "path": pa.string()})))
        elif name == "gender":
            features[name] = {"_type": "ClassLabel", "names": ["male", "female", "other"]}
            fields.append(pa.field(name, pa.int64()))
        else:
            kind = {str: pa.string(), int: pa.int64(), float: pa.float64()}.get(type(value), pa.string())
            features[name] = {"_type": "Value", "dtype": str(kind).replace("double", "float64")}
            fields.append(pa.field(name, kind))
    schema = pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), buffer, row_group_size=group)
    return buffer.getvalue()
