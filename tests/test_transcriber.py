"""Python's way in: `hvisk.load(...).transcribe(...)`, with the command line's defaults, in any language, and saved."""

import dataclasses
import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import hvisk
from hvisk import audio, cli
from hvisk.commands.transcribe import transcribe as command
from hvisk.corpora.speak import speak
from hvisk.errors import AudioError, HviskError, ModelError
from hvisk.recogniser import batch
from hvisk.recogniser.transcriber import Transcriber

SOUND = speak("Vi mødes på torvet i morgen klokken halv otte.")


@pytest.fixture(scope="module")
def model(random_ct2: Path) -> Transcriber:
    return hvisk.load(random_ct2, threads=1)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "torvet.wav"
    soundfile.write(path, SOUND, audio.SAMPLE_RATE, subtype="FLOAT")
    return path


def test_a_path_its_bytes_and_its_samples_are_one_recording(model: Transcriber, clip: Path) -> None:
    found = model.transcribe(clip, guards=None, words=True)
    assert found.segments[0].words
    assert (found.language, found.seconds) == ("da", len(SOUND) / audio.SAMPLE_RATE)
    for source in (str(clip), clip.read_bytes(), SOUND, SOUND.astype(np.float64)):
        assert model.transcribe(source, guards=None, words=True) == found
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.segments[0].text = "something else"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((SOUND * 32767).astype(np.int16), r"holds int16\. Accepted: 1-D float.*/ 32768"),
        ([0.0, 0.1], "holds list. Accepted"),
        (np.stack([SOUND, SOUND]), r"shape \(2, \d+\)"),
        (SOUND[:0], r"shape \(0,\)"),
        (np.array([0.0, np.nan]), "not numbers"),
        (b"RIFF", "not a sound file"),
        ("nowhere.mp3", "nowhere.mp3 does not exist"),
    ],
)
def test_what_is_no_recording_is_explained(model: Transcriber, source: object, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        model.transcribe(source)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="of a file alone"):
        model.transcribe(SOUND, channel=0)


def test_the_command_line_and_python_have_the_same_defaults() -> None:
    shared = {"language": "da", "beam_size": 5, "vad": True}
    options = batch.Options()
    for name, value in shared.items():
        assert inspect.signature(command).parameters[name].default == value
        assert inspect.signature(Transcriber.transcribe).parameters[name].default == value
        assert getattr(options, name) == value
    assert inspect.signature(Transcriber.transcribe).parameters["guards"].default == options.guards is not None


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hvisk", "transcribe", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0


def test_danish_is_the_default_and_other_languages_are_asked_for(
    model: Transcriber,
    clip: Path,
    random_ct2: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = {}
    for chosen in ([], ["--language", "da"], ["--language", "sv"], ["--language", "en"]):
        assert run(monkeypatch, clip, "--model", random_ct2, "--json", "--no-guards", *chosen) == 0
        told = json.loads(capsys.readouterr().out)
        code = chosen[-1] if chosen else "da"
        (alone,) = model.recogniser.recognise([SOUND], language=code, beam_size=5)
        assert (told["language"], told["text"]) == (code, alone.text)
        assert texts.setdefault(code, alone.text) == alone.text
    assert len(set(texts.values())) > 1  # the language reaches the decoder
    assert run(monkeypatch, clip, "--model", random_ct2, "--language", "xx") == 1
    assert "xx" in capsys.readouterr().err
    with pytest.raises(ModelError, match="xx"):
        model.transcribe(clip, language="xx")


def test_what_was_transcribed_is_saved_by_its_ending(model: Transcriber, clip: Path, tmp_path: Path) -> None:
    found = model.transcribe(clip, guards=None)
    for ending in ("txt", "srt", "vtt", "tsv", "json", "docx"):
        hvisk.save(found, tmp_path / f"torvet.{ending}")
    assert json.loads((tmp_path / "torvet.json").read_text())["text"] == found.segments[0].text
    assert (tmp_path / "torvet.docx").read_bytes()[:2] == b"PK"
    hvisk.save(found, str(tmp_path / "TORVET.SRT"))
    assert (tmp_path / "TORVET.SRT").read_text() == (tmp_path / "torvet.srt").read_text()
    with pytest.raises(HviskError, match=r"no form 'doc'\. Accepted: \.txt, .*\.docx"):
        hvisk.save(found, tmp_path / "torvet.doc")


def test_subtitles_are_timed_by_words_unless_they_are_not_wanted(
    clip: Path, random_ct2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Transcriber
) -> None:
    for extra in ([], ["--no-words"]):
        out = tmp_path / f"out{len(extra)}"
        assert (
            run(monkeypatch, clip, "--model", random_ct2, "--format", "srt", "--no-guards", "--out", out, *extra) == 0
        )
    timed, shared = ((tmp_path / f"out{n}" / "torvet.srt").read_text() for n in (0, 1))
    hvisk.save(model.transcribe(clip, guards=None, words=True), tmp_path / "timed.srt")
    assert timed == (tmp_path / "timed.srt").read_text() != shared


def test_a_word_document_wants_a_folder(
    clip: Path, random_ct2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, clip, "--model", random_ct2, "--format", "docx") == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())  # typer draws a box
    assert "a Word document is no text that could be printed: add --out DIR" in told
    assert run(monkeypatch, clip, "--model", random_ct2, "--format", "docx", "--out", tmp_path, "--no-guards") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'torvet.docx'}\n"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert run(monkeypatch, clip, "--model", random_ct2, "--format", "docx", "--out", tmp_path, "--overwrite") == 1
    assert "pip install 'hvisk[docx]'" in capsys.readouterr().err
