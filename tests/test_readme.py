"""The README's commands, run in its order as a newcomer would; its file tree names every file."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from hvisk import audio
from hvisk.corpora.store import Store
from test_hub import Hub

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
RECORDINGS = 120


@dataclass(frozen=True)
class Newcomer:
    """Somebody in a folder with the demo done, recordings of their own, and a Hub on this machine."""

    folder: Path
    hub: str

    def run(self, command: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HF_ENDPOINT": self.hub,
            "HF_HOME": str(self.folder / "hf"),
            "HVISK_CACHE": str(self.folder / "cache"),
        }
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        # Of a dozen clips and a model of some seconds' training one clip may come out otherwise, and the export be refused:
        # then the way out that the refusal names must work.
        if done.returncode and command.startswith("hvisk export") and "--force writes it anyhow" in done.stderr:
            return self.run(f"{command} --force")
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def newcomer(demo_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    folder = tmp_path_factory.mktemp("newcomer")
    (folder / "runs").mkdir()
    shutil.copytree(demo_run / "runs/demo", folder / "runs/demo")
    sound = audio.load(folder / "runs/demo/recording.flac")
    for name, codec in (("interview.m4a", "aac"), ("podcast.mp3", "mp3")):
        encode(sound, folder / name, codec)
    corpus = Store.open(demo_run / "runs/demo/corpus/train")
    (folder / "recordings").mkdir()
    lines = ["audio,text,speaker"]
    for i in range(RECORDINGS):
        (folder / "recordings" / f"{i}.flac").write_bytes(corpus.encoded(i))
        lines.append(f'{i}.flac,"{corpus.texts[i]}",{corpus.speakers[i]}')
    (folder / "recordings/metadata.csv").write_text("\n".join(lines) + "\n")

    # No weights can be fetched in a test: the demo's own model is served under the name that the README uses.
    served = Hub(folder / "hub")
    shutil.copytree(demo_run / "runs/demo/training/model", served.root / "openai/whisper-tiny")
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield Newcomer(folder, served.url)
    served.shutdown()
    served.server_close()
    thread.join()


def encode(sound: np.ndarray, path: Path, codec: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=audio.SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = audio.SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_every_command_works_in_the_order_of_the_page(newcomer: Newcomer) -> None:
    recipe = next(text for kind, text in BLOCKS if kind == "toml")
    name = re.match(r"# (\S+)", recipe)
    assert name is not None
    short = recipe.replace("minutes = 60", "minutes = 0.1")
    assert short != recipe
    (newcomer.folder / name[1]).write_text(short)
    said = {}
    for command in COMMANDS:
        if command.startswith("make "):
            subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, check=True, capture_output=True)
            continue
        said[command] = newcomer.run(command.removeprefix(".venv/bin/"))
    assert len(said) >= 8
    assert not [command for command in said if not said[command].strip()]  # each prints its result
    assert (newcomer.folder / "subtitles/podcast.srt").read_text().startswith("1\n00:00:")
    assert (newcomer.folder / "runs/mine/report.html").exists()


def test_the_python_block_prints_segments(newcomer: Newcomer) -> None:
    code = next(text for kind, text in BLOCKS if kind == "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=newcomer.folder, capture_output=True, text=True, check=True)
    assert re.match(r" +\d+\.\d\d  \w", done.stdout)


def test_the_first_command_stands_within_twenty_lines() -> None:
    assert "```sh" in README.splitlines()[:20]


def test_the_file_tree_names_every_file_of_the_package() -> None:
    tree = next(text for kind, text in BLOCKS if kind == "text" and "src/hvisk/" in text)
    named = set(re.findall(r"[\w.-]+\.(?:py|toml|txt|jinja|css|js)\b", tree))
    held = {p.name for p in (ROOT / "src/hvisk").rglob("*") if p.suffix in (".py", ".toml") and p.name != "__init__.py"}
    assert held <= named, f"not in the tree: {sorted(held - named)}"


def test_every_make_target_that_the_page_names_is_there() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make (\w+)`?", README)) <= targets
