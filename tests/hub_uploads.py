"""The part of the Hub's protocol by which files go up: repositories, preupload, large files, commits of models."""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from hub_server import Answer, Hub


class Uploads(Hub):
    """A Hub that models can be pushed to; `created` and `committed` hold what was asked of it, newest last."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.RequestHandlerClass = Taking
        self.created: list[dict[str, Any]] = []
        self.committed: list[dict[str, list[str]]] = []
        self.large: dict[str, bytes] = {}
        self.lock = threading.Condition()

    def await_commits(self, count: int) -> None:
        """Return once there were so many commits."""
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.committed) >= count, timeout=60)


class Taking(Answer):
    server: Uploads

    def do_POST(self) -> None:  # noqa: N802
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = f"POST {self.path}"
        self.server.asked.append(asked)
        if fault := self.server.wrong(asked):
            return self.reply(fault.status, **fault.headers)
        if "Authorization" not in self.headers:
            return self.reply(401)
        if self.path == "/api/repos/create":
            return self.create(**json.loads(self.body))
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            listed = json.loads(self.body)["files"]
            large = (".safetensors", ".pt")
            modes = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(large) else "regular"} for f in listed
            ]
            return self.reply(200, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", self.path):
            objects = [self.place(**one) for one in json.loads(self.body)["objects"]]
            return self.reply(200, {"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            return self.commit(found[1], [json.loads(line) for line in self.body.splitlines()])
        return self.reply(404)

    def do_PUT(self) -> None:  # noqa: N802
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(f"PUT {self.path}")
        if fault := self.server.wrong(f"PUT {self.path}"):
            return self.reply(fault.status, **fault.headers)
        assert sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.server.large[self.path.rpartition("/")[2]] = content
        return self.reply(200)

    def create(self, name: str, organization: str, **more: Any) -> None:
        directory = self.server.root / organization / name
        self.server.created.append({"repo": f"{organization}/{name}", **more})
        if directory.is_dir():
            return self.reply(409, {"error": "It is there already", "url": f"{self.server.url}/{organization}/{name}"})
        directory.mkdir(parents=True)
        return self.reply(200, {"url": f"{self.server.url}/{organization}/{name}", "id": "1", "name": name})

    def place(self, oid: str, size: int) -> dict[str, Any]:
        known = oid in self.server.large
        return {"oid": oid, "size": size} | (
            {} if known else {"actions": {"upload": {"href": f"{self.server.url}/large/{oid}"}}}
        )

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        directory, done = self.server.root / repo, {"file": list[str](), "lfsFile": [], "deletedFile": []}
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            path = directory / value["path"]
            done[kind].append(value["path"])
            if kind == "deletedFile":
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                self.server.large[value["oid"]] if kind == "lfsFile" else base64.b64decode(value["content"])
            )
        self.reply(200, {"commitUrl": f"{self.server.url}/{repo}/commit/1", "commitOid": "1" * 40, "success": True})
        with self.server.lock:
            self.server.committed.append(done)
            self.server.lock.notify_all()


@contextlib.contextmanager
def taking(root: Path) -> Iterator[Uploads]:
    """A Hub that takes uploads until the block ends."""
    served = Uploads(root)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.shutdown()
        thread.join()
        served.server_close()
