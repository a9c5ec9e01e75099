"""What is given to transcribe: folders, patterns, channels, pipes and long recordings."""

import dataclasses
import io
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from hvisk import audio
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak
from hvisk.errors import AudioError
from hvisk.recogniser import batch, inputs
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.longform import stream, transcribe

FIRST, SECOND = speak("Vi mødes på torvet i morgen klokken halv otte."), speak("Jeg elsker tebirkes.", voice="f2")


@pytest.fixture(scope="module")
def recogniser(random_ct2: Path) -> Recogniser:
    return Recogniser.load(random_ct2, threads=2)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One speaker on the left at first, another on the right after 4 s."""
    path = tmp_path_factory.mktemp("sound") / "interview.wav"
    both = np.zeros((8 * SAMPLE_RATE, 2), np.float32)
    both[: len(FIRST), 0] = FIRST
    both[4 * SAMPLE_RATE :][: len(SECOND), 1] = SECOND
    soundfile.write(path, both, SAMPLE_RATE)
    return path


def run(recordings: list[Path], recogniser: Recogniser, out: Path | None = None, **options: object) -> list[Path]:
    quiet = Console(file=io.StringIO())
    return batch.transcribe(recordings, recogniser, batch.Options(**options), out, quiet)  # type: ignore[arg-type]


def test_folders_and_patterns_become_files_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.wav", "a.MP3", "inner/c.flac", "notes.txt", "odd[1].wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    everything = [Path(name) for name in ("a.MP3", "b.wav", "inner/c.flac", "odd[1].wav")]
    assert inputs.expand([Path()]) == everything
    assert inputs.expand([Path("b.wav"), Path("*.wav")]) == [Path("b.wav"), Path("odd[1].wav")]
    assert inputs.expand([Path("**/*.flac")]) == [Path("inner/c.flac")]
    assert inputs.expand([Path("odd[1].wav"), Path("-"), Path("gone.wav")]) == [
        *map(Path, ("odd[1].wav", "-", "gone.wav"))
    ]
    with pytest.raises(AudioError, match=r"called \*\.ogg"):
        inputs.expand([Path("*.ogg")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match=r"empty holds no sound files.*\.wav"):
        inputs.expand([Path("empty")])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_blocks_are_the_whole_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.stack([FIRST, FIRST[::-1]], axis=1), SAMPLE_RATE)
    blocks = list(audio.blocks(path))
    assert len(blocks) > 3
    assert max(map(len, blocks)) <= 10 * SAMPLE_RATE
    np.testing.assert_allclose(np.concatenate(blocks), audio.load(path), atol=1e-4)
    channels, seconds = audio.about(path)
    assert channels == 2
    assert seconds == pytest.approx(len(FIRST) / SAMPLE_RATE, abs=0.1)


def test_a_channel_is_one_speaker(stereo: Path) -> None:
    whole, _ = soundfile.read(stereo, dtype="float32")
    for channel in (0, 1):
        found = np.concatenate(list(audio.blocks(stereo, channel=channel)))
        np.testing.assert_allclose(found, whole[:, channel], atol=1e-4)
    with pytest.raises(AudioError, match="no channel 2, only 0 to 1"):
        list(audio.blocks(stereo, channel=2))


def test_blocks_of_a_file_that_is_cut_short_end_with_an_error(stereo: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(stereo.read_bytes()[:200_000])
    given = []
    with pytest.raises(AudioError, match="cut short"):
        given.extend(audio.blocks(cut))
    (tmp_path / "noise.wav").write_bytes(b"RIFFnonsense")
    with pytest.raises(AudioError, match="not a sound file"):
        list(audio.blocks(tmp_path / "noise.wav"))


def test_a_short_recording_streams_to_what_it_is_whole(recogniser: Recogniser) -> None:
    recording = np.concatenate([FIRST, np.zeros(40_000, np.float32), SECOND, np.zeros(9_000, np.float32)])
    told: list[float] = []
    blocks = (recording[at : at + 5_000] for at in range(0, len(recording), 5_000))
    streamed = stream(recogniser, blocks, words=True, on_progress=told.append)
    assert streamed == transcribe(recogniser, recording, words=True)
    assert told == [streamed.seconds]


@pytest.mark.parametrize("vad", [True, False])
def test_a_long_recording_is_heard_once_and_in_order(recogniser: Recogniser, vad: bool) -> None:
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    recording = np.concatenate([part for _ in range(28) for part in (FIRST, pause, SECOND, pause)])
    size = 3_333

    def blocks():
        for at in range(0, len(recording), size):
            yield recording[at : at + size]

    told: list[float] = []
    found = stream(recogniser, blocks(), vad=vad, chapter_seconds=60, on_progress=told.append)
    assert found.seconds == pytest.approx(len(recording) / SAMPLE_RATE)
    assert len(told) >= 3
    assert told == sorted(told)
    edges = [0.0, *itertools.chain(*((s.start, s.end) for s in found.segments)), found.seconds]
    assert all(one <= two + 1e-6 for one, two in itertools.pairwise(edges))
    whole = transcribe(recogniser, recording, vad=vad)
    spoken = sum(s.end - s.start for s in found.segments)
    assert spoken == pytest.approx(sum(s.end - s.start for s in whole.segments), rel=0.03)


def test_a_long_silence_has_no_text_and_its_whole_length(recogniser: Recogniser) -> None:
    silence = np.zeros(SAMPLE_RATE, np.float32)
    found = stream(recogniser, (silence for _ in range(200)), chapter_seconds=60)
    assert (found.segments, found.seconds) == ((), 200.0)


def test_channels_apart_are_transcripts_of_their_own(
    recogniser: Recogniser, stereo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([stereo], recogniser, channels="separate", as_json=True) == []
    left, right = map(json.loads, capsys.readouterr().out.splitlines())
    assert (left["channel"], right["channel"]) == (1, 2)
    assert left["segments"][0]["start"] < 1
    assert right["segments"][0]["start"] == pytest.approx(3.7, abs=0.3)
    run([stereo], recogniser, tmp_path, channels="separate", form="tsv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["interview.1.tsv", "interview.2.tsv"]
    header, first = (tmp_path / "interview.2.tsv").read_text().splitlines()[:2]
    assert header == "start\tend\ttext"
    assert int(first.split("\t")[0]) == pytest.approx(3_700, abs=300)


def test_standard_input_is_a_recording(
    recogniser: Recogniser, stereo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @dataclasses.dataclass
    class Pipe:
        buffer: io.BytesIO

    run([stereo], recogniser)
    expected = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", Pipe(io.BytesIO(stereo.read_bytes())))
    assert run([inputs.STDIN], recogniser) == []
    assert capsys.readouterr().out == expected != ""


def test_a_broken_recording_leaves_no_file(recogniser: Recogniser, stereo: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(stereo.read_bytes()[:200_000])
    assert run([cut, stereo], recogniser, tmp_path / "out") == [cut]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["interview.txt"]
