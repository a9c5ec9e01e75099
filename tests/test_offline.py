"""The default model, the pinned commit, and a network that is cut: what is here works, and nobody is asked."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from huggingface_hub import constants

import hvisk
from hub_server import COMMIT, OLD_COMMIT, Hub, serving, sign_out_at
from hvisk import models
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.recogniser import defaults

# A process in which every socket is an error, on loopback too, and every attempt is written down.
CUT = """
import sys
asked = []
def watch(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname",):
        asked.append(event)
        raise OSError("the network is cut")
sys.addaudithook(watch)
import socket
try: socket.create_connection(("127.0.0.1", 9))
except OSError: assert asked, "the watch does not work"
asked.clear()
sys.argv[1:] = sys.argv[2:]
from hvisk.cli import main
try: main()
except SystemExit as ending: assert not ending.code
print("asked:", asked, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "birkes.wav"
    soundfile.write(path, speak("Jeg elsker tebirkes."), 16_000)
    return path


@pytest.fixture
def hub(random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that holds the default model, an empty cache, and an empty directory to work in."""
    with serving(tmp_path / "hub") as served:
        directory = Path(shutil.copytree(random_whisper, served.root / defaults.MODEL))
        (directory / "README.md").write_text("---\nlanguage: da\nlicense: openrail\n---\n")
        (directory / "optimizer.bin").write_bytes(bytes(9_000_000))
        sign_out_at(served, tmp_path, monkeypatch)
        monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "converted"))
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        yield served


def test_without_a_name_the_default_is_fetched_once_and_told(
    hub: Hub, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = hvisk.load(threads=1)
    size = sum(f.stat().st_size for f in (hub.root / defaults.MODEL).iterdir() if f.suffix in (".json", ".safetensors"))
    size += (hub.root / defaults.MODEL / "merges.txt").stat().st_size
    told = [line for line in capsys.readouterr().err.splitlines() if defaults.MODEL in line]
    assert told == [
        f"{defaults.MODEL}, the model where none is named, is not here yet: asking {hub.url} for it.",
        f"Fetching {defaults.MODEL} at {COMMIT[:12]}, {size / 1e6:.1f} MB, licence: openrail, from {hub.url} to "
        f"{tmp_path / 'cache'}; once, and nothing is sent.",
    ]
    assert "optimizer.bin" not in hub.files
    hub.asked.clear()
    second = hvisk.load(defaults.MODEL, threads=1)
    assert second.transcribe(clip, beam_size=1, guards=None) == first.transcribe(clip, beam_size=1, guards=None)
    assert (hub.asked, capsys.readouterr().err) == ([], "")


def test_the_demo_s_model_comes_first_where_it_was_made_and_is_told(
    hub: Hub, random_ct2: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(random_ct2, models.DEMO)
    assert models.recognisable() == models.DEMO
    assert capsys.readouterr().err == (
        "No model is named: runs/demo/model, which hvisk demo made of synthetic speech. "
        "For people: --model rasgaard/whisper-tiny.da\n"
    )
    assert models.recognisable("runs/demo") == models.DEMO
    assert (hub.asked, capsys.readouterr().err) == ([], "")


def test_a_branch_stays_at_its_commit_until_another_is_asked_for(
    hub: Hub, random_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = models.hugging_face(defaults.MODEL)
    assert first.name == COMMIT
    # Another tool follows the branch, which has moved, and has fetched the new commit.
    repository = first.parents[1]
    moved = shutil.copytree(first, first.with_name("beef" * 10))
    (repository / "refs" / "main").write_text(moved.name)
    hub.asked.clear()
    assert models.hugging_face(defaults.MODEL) == models.hugging_face(f"{defaults.MODEL}@main") == first
    assert models.hugging_face(f"{defaults.MODEL}@{moved.name}") == moved
    assert hub.asked == []
    assert models.hugging_face(f"{defaults.MODEL}@v1").name == OLD_COMMIT
    hub.asked.clear()
    assert models.hugging_face(f"{defaults.MODEL}@v1").name == OLD_COMMIT
    assert models.hugging_face(defaults.MODEL) == first
    # What is lost in part is completed at the same commit; who deletes it whole gets what the branch is today.
    (first / "model.safetensors").unlink()
    assert models.hugging_face(defaults.MODEL) == first
    assert any(f"/{COMMIT}" in line for line in hub.asked)
    hub.asked.clear()
    shutil.rmtree(first)
    assert models.hugging_face(defaults.MODEL) == moved
    assert hub.asked == []
    monkeypatch.setenv("HVISK_CACHE", "/proc/nowhere")  # a cache that cannot be written: Hugging Face's own remembers
    assert models.hugging_face(defaults.MODEL) == moved


def test_offline_without_a_model_the_error_says_how_to_get_any(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"not in the cache.*hf download rasgaard\S+ --local-dir.*--model DIR.*hvisk demo"
    ):
        hvisk.load()
    assert (hub.asked, capsys.readouterr().err) == ([], "")


@pytest.mark.parametrize("kind", ["the default from the Hub", "a directory"])
def test_with_the_network_cut_everything_works_once_the_model_is_here(
    hub: Hub, clip: Path, random_whisper: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "a directory":
        chosen = ["--model", str(random_whisper)]
    else:
        models.recognisable()  # it comes over the network once
        chosen = []
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": constants.HF_HUB_CACHE,
        "HOME": str(tmp_path),
    }
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # of this process, which has imported hvisk
    hub.asked.clear()
    command = [sys.executable, "-c", CUT, "--", "transcribe", str(clip), "--json", "--words", *chosen]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "asked: []"
    assert json.loads(done.stdout)["language"] == "da"
    assert hub.asked == []
    # What a library does below Python leaves its traces: ONNX Runtime's telemetry keeps a device id and what it will send.
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.casefold()]


def test_a_port_that_nobody_answers_is_a_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ModelError, match="cannot be fetched"):
            hvisk.load()
