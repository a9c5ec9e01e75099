"""The command line as a person meets it: help, errors that say what to do, files, streams and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from huggingface_hub import constants

from hvisk import cli
from hvisk.corpora.speak import speak

VERBS = [
    "demo",
    "prepare",
    "prepare synthetic",
    "prepare folder",
    "prepare source",
    "prepare common-voice",
    "prepare list",
    "restore",
    "train",
    "sweep",
    "hear",
    "trim",
    "evaluate",
    "score",
    "compare",
    "try",
    "export",
    "transcribe",
    "listen",
    "serve",
    "report",
    "card",
    "push",
    "doctor",
]


@pytest.fixture
def hvisk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `hvisk ARGUMENTS...` in this process; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hvisk", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "birkes.wav"
    soundfile.write(path, speak("Jeg elsker tebirkes."), 16_000)
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(hvisk, verb: str) -> None:
    code, out, _ = hvisk(*verb.split(), "--help")
    assert code == 0
    assert "Usage: hvisk" in out


def test_version(hvisk) -> None:
    from hvisk import __version__

    assert hvisk("--version") == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["transcribe", "nowhere.mp3", "gone.wav"], ["nowhere.mp3 does not exist", "patterns"]),
        (["transcribe", "-", "--model", "foo"], ["'foo'", "openai/whisper-tiny"]),
        (["transcribe", "-"], ["rasgaard/whisper-tiny.da is not in the cache", "hf download", "hvisk demo", "--model"]),
        (["train", "nowhere.toml"], ["nowhere.toml", "demo"]),
        (["evaluate", "hvisk:demo-base", "--on", "nowhere"], ["nowhere", "hvisk prepare"]),
        (["prepare", "folder", "nowhere", "--out", "x"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere", "recipe.json"]),
        (["export", "nowhere/x", "--out", "x"], ["nowhere/x"]),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_exit_code_1(
    hvisk,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    code, out, err = hvisk(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("arguments", [["transcribe"], ["transcribe", "--modle", "x", "a.wav"], ["tranzcribe"]])
def test_a_wrong_call_is_exit_code_2(hvisk, arguments: list[str]) -> None:
    assert hvisk(*arguments)[0] == 2


def test_transcribe_to_stdout_in_every_form(hvisk, clip: Path, random_ct2: Path) -> None:
    for form, sign in (("txt", ""), ("srt", " --> "), ("vtt", "WEBVTT"), ("json", '"segments"')):
        code, out, err = hvisk("transcribe", clip, "--model", random_ct2, "--format", form)
        assert code == 0
        assert sign in out
        assert "times real time" in err
    code, out, _ = hvisk("transcribe", clip, clip, "--model", random_ct2, "--json")
    assert code == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(clip)] * 2
    assert hvisk("transcribe", clip, clip, "--model", random_ct2, "--format", "srt")[0] == 2


def test_a_broken_file_costs_itself_alone(hvisk, clip: Path, random_ct2: Path, tmp_path: Path) -> None:
    broken = tmp_path / "sang.mp3"
    broken.write_text("this is no music")
    silence = tmp_path / "stilhed.flac"
    soundfile.write(silence, np.zeros(16_000), 16_000)
    out = tmp_path / "out"
    code, listed, err = hvisk(
        "transcribe", broken, clip, silence, "--model", random_ct2, "--out", out, "--format", "srt"
    )
    assert code == 1
    assert "1 of 3 files could not be transcribed" in err
    assert "sang.mp3" in err
    assert "no speech was found" in err
    assert sorted(p.name for p in out.iterdir()) == ["birkes.srt", "stilhed.srt"]
    assert listed.splitlines() == [str(out / "birkes.srt"), str(out / "stilhed.srt")]

    (out / "birkes.srt").write_text("kept")
    code, _, err = hvisk("transcribe", clip, "--model", random_ct2, "--out", out, "--format", "srt")
    assert (code, (out / "birkes.srt").read_text()) == (0, "kept")
    assert "--overwrite" in err
    hvisk("transcribe", clip, "--model", random_ct2, "--out", out, "--format", "srt", "--overwrite")
    assert "-->" in (out / "birkes.srt").read_text()
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / clip.name
    twin.write_bytes(clip.read_bytes())
    code, _, err = hvisk("transcribe", clip, twin, "--model", random_ct2, "--out", out)
    assert (code, "written to" in err) == (1, True)


def test_nothing_leaves_the_machine(clip: Path, random_whisper: Path, tmp_path: Path) -> None:
    """A fresh process that transcribes, conversion included, and in which every look-up and connection is an error."""
    script = f"""
import sys
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("LEAK", event, arguments, file=sys.stderr); sys.stderr.flush()
        import os; os._exit(99)
sys.addaudithook(watch)
sys.argv[1:] = ["transcribe", {str(clip)!r}, "--model", {str(random_whisper)!r}]
from hvisk.cli import main
try: main()
except SystemExit as ending: assert not ending.code
import socket
try: socket.create_connection(("127.0.0.1", 9))
except OSError: pass
"""
    environment = {"HVISK_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert "times real time" in done.stderr
    # The last lines try to connect on purpose: the watch is shown to work, and to have seen nothing before.
    assert done.returncode == 99
    assert done.stderr.count("LEAK") == 1
    assert "('127.0.0.1', 9" in done.stderr


def test_prepare_a_folder_and_evaluate_on_it(
    hvisk,
    monkeypatch: pytest.MonkeyPatch,
    clip: Path,
    random_ct2: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for number in range(6):
        soundfile.write(tmp_path / "mine" / f"{number}.wav", speak(f"Nummer {number} er her.", voice="f2"), 16_000)
    lines = ["audio,text,speaker", *(f"{n}.wav,Nummer {n} er her.,taler {n % 3}" for n in range(7))]
    (tmp_path / "mine" / "metadata.csv").write_text("\n".join(lines) + "\n")
    code, out, err = hvisk(
        "prepare", "folder", "mine", "--out", "corpus", "--licence", "CC0-1.0", "--json", "--workers", "1"
    )
    assert code == 0, err
    assert json.loads(out)["train"]["clips"] == 6
    assert json.loads(out)["train"]["filtered"] == {"no such file": 1}

    code, out, err = hvisk("evaluate", random_ct2, "--on", "corpus/train", "--out", "eval", "--json")
    assert code == 0, err
    (found,) = json.loads(out)
    score = found["scales"]["wer"]
    assert (score["clips"], score["speakers"], score["words"]) == (6, 3, 24)
    assert score["wer"] > 0.5  # it says noise
    rows = [json.loads(line) for line in (tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()]
    assert {r["reference"] for r in rows} == {f"Nummer {n} er her." for n in range(6)}
    code, out, err = hvisk("evaluate", random_ct2, "--on", "corpus/train", "--out", "eval", "--beam-size", "2")
    assert (code, "other settings" in err) == (1, True)
