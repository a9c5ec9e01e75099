"""Models from a Hub that speaks the true one's protocol on loopback: fetched once, sparingly, and refused clearly."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants

from hub_server import COMMIT, OLD_COMMIT, Hub, serving, sign_out_at
from hvisk import files, models
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.export import origin
from hvisk.recogniser.engine import Recogniser

REPO = "danmark/hvisk-tiny"


@pytest.fixture
def hub(random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one good repository, an empty cache, nobody signed in, and an empty directory to work in."""
    with serving(tmp_path / "hub") as served:
        yield prepared(served, random_whisper, tmp_path, monkeypatch)


def prepared(served: Hub, random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    directory = Path(shutil.copytree(random_whisper, served.root / REPO))
    for name in ("README.md", "pytorch_model.bin", "model.fp32-00001-of-00002.safetensors", "state.pt"):
        (directory / name).write_text("large")
    sign_out_at(served, tmp_path, monkeypatch)
    monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "converted"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return served


def same(left: Path, right: Path) -> bool:
    return all(files.sha256(left / file.name) == files.sha256(file) for file in right.iterdir())


def test_the_hub_is_asked_once_for_the_files_that_are_needed(hub: Hub, random_whisper: Path) -> None:
    first = models.hugging_face(REPO)
    assert same(first, random_whisper)
    assert set(hub.files) == {file.name for file in random_whisper.iterdir()}
    assert hub.asked[-1] == f"GET /cdn/{REPO}/model.safetensors"
    hub.asked.clear()
    assert models.hugging_face(REPO) == models.hugging_face(f"{REPO}@main") == first
    assert same(models.recognisable(REPO), models.recognisable(str(random_whisper)))
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
    assert [file.name for file in origin.weight_files(models.hugging_face(REPO))] == parts
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
