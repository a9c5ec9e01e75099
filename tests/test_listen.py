"""hvisk listen: sound from files, pipes and a microphone that stands in for one; what is shown, saved, and told."""

import io
import itertools
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from hvisk import audio, cli, models
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak
from hvisk.errors import AudioError, MissingExtra
from hvisk.export.ct2 import convert
from hvisk.recogniser import microphone, pipe
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.inbox import Inbox, captions
from hvisk.recogniser.live import Live
from hvisk.recogniser.longform import transcribe
from hvisk.recogniser.microphone import BLOCK, devices, playing
from hvisk.recogniser.pipe import piped

ROOT = Path(__file__).parents[1]
HVISK = [sys.executable, "-c", "from hvisk.cli import main; main()", "listen"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("listen") / "base-ct2"
    convert(models.hugging_face("hvisk:demo-base"), out)
    return out


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """A short sentence, 0.4 s of silence before it and 0.8 after."""
    parts = [np.zeros(6400, np.float32), speak("Jeg elsker tebirkes.", voice="f2"), np.zeros(12800, np.float32)]
    return audio.pcm16(np.concatenate(parts)) / np.float32(32768)  # as a file and a pipe keep it


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, sound: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("sound") / "birkes.wav"
    soundfile.write(path, sound, SAMPLE_RATE)
    return path


@pytest.fixture(scope="module")
def text(model: Path, clip: Path) -> str:
    """What the finished transcript of the sentence is."""
    (segment,) = transcribe(Recogniser.load(model, threads=1), audio.load(clip), beam_size=5).segments
    return segment.text


@pytest.fixture
def hvisk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `hvisk listen ARGUMENTS...` in this process; returns exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hvisk", "listen", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class PortAudioError(Exception):
    pass


class Stream:
    """A microphone that gives `sound`, loses some in the second block, and is unplugged at the end."""

    def __init__(self, sound: np.ndarray, rate: int, channels: int) -> None:
        self.sound, self.rate, self.channels = audio.pcm16(sound), rate, channels
        self.at = self.reads = 0
        self.closed = False

    def start(self) -> None:
        pass

    def read(self, frames: int) -> tuple[np.ndarray, bool]:
        if self.at >= len(self.sound):
            raise PortAudioError("Unanticipated host error [PaErrorCode -9999]")
        block = self.sound[self.at : self.at + frames]
        self.at, self.reads = self.at + frames, self.reads + 1
        return np.repeat(block[:, None], self.channels, axis=1), self.reads == 2

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch):
    """Plug in a microphone that takes only its own rate and number of channels; returns its stream, once that is open."""

    def plug(sound: np.ndarray, rate: int = SAMPLE_RATE, channels: int = 1) -> list[Stream]:
        opened: list[Stream] = []
        about = {"name": "USB-mikrofon", "max_input_channels": channels, "default_samplerate": float(rate)}

        def check(*, samplerate: float, channels: int, **_: object) -> None:
            if (samplerate, channels) != (rate, about["max_input_channels"]):
                raise PortAudioError("Invalid sample rate")

        def query(device: object = None, kind: object = None) -> object:
            if device not in (None, 1, "USB"):
                raise ValueError(f"No input device matching {device!r}")
            return about if kind else [{**about, "name": "højttaler", "max_input_channels": 0}, about]

        def stream(*, samplerate: float, channels: int, **_: object) -> Stream:
            check(samplerate=samplerate, channels=channels)
            opened.append(Stream(sound, rate, channels))
            return opened[-1]

        module = types.ModuleType("sounddevice")
        module.__spec__ = types.SimpleNamespace()
        module.default = types.SimpleNamespace(device=(1, 0))
        module.PortAudioError, module.InputStream = PortAudioError, stream
        module.query_devices, module.check_input_settings = query, check
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        return opened

    return plug


def taken(inbox: Inbox) -> list[np.ndarray | int]:
    return [item for items in iter(inbox.take, None) for item in items]


def blocks(*lengths: int) -> Iterator[np.ndarray]:
    yield from (np.full(length, number + 1, np.float32) for number, length in enumerate(lengths))


def test_an_inbox_gives_all_that_waits_at_once() -> None:
    inbox = Inbox(lossy=False)
    inbox.fill(blocks(3, 4, 5)).join()
    (items,) = [taken(inbox)]
    np.testing.assert_array_equal(items[0], np.concatenate(list(blocks(3, 4, 5))))
    assert len(items) == 1


def test_what_is_too_far_behind_is_dropped_counted_and_leaves_a_gap() -> None:
    inbox = Inbox(lossy=True, seconds=10 / SAMPLE_RATE)
    inbox.fill(blocks(6, 6, 7, 8)).join()
    heard, gap = taken(inbox)
    assert (len(heard), gap, inbox.dropped) == (12, 15, 15)


def test_a_file_waits_where_a_microphone_drops() -> None:
    inbox = Inbox(lossy=False, seconds=10 / SAMPLE_RATE)
    thread = inbox.fill(blocks(*[6] * 50))
    assert sum(map(len, taken(inbox))) == 300
    thread.join()
    assert inbox.dropped == 0


def test_a_stopped_inbox_gives_what_waits_and_takes_no_more() -> None:
    inbox = Inbox(lossy=False, seconds=10 / SAMPLE_RATE)
    thread = inbox.fill(blocks(*[6] * 50))
    while not inbox._waiting:
        thread.join(0.001)
    inbox.stop()
    thread.join()
    assert 6 <= sum(map(len, taken(inbox))) <= 18
    assert inbox.take() is None


def test_captions_survive_what_ends_their_source(model: Path, sound: np.ndarray, text: str) -> None:
    def breaking() -> Iterator[np.ndarray]:
        yield sound[: -SAMPLE_RATE // 4]  # the pause is too short to end the utterance
        raise AudioError("unplugged")

    inbox = Inbox(lossy=True)
    inbox.fill(breaking())
    found = []
    with pytest.raises(AudioError, match="unplugged"):  # noqa: PT012
        for caption in captions(Live(Recogniser.load(model, threads=1)), inbox):
            found.append(caption)  # noqa: PERF402
    assert found[-1].final.text == text


def test_times_are_right_after_what_was_dropped(model: Path, sound: np.ndarray) -> None:
    recogniser = Recogniser.load(model, threads=1)
    (alone,) = [c for c in Live(recogniser).feed(sound) if c.final]
    inbox = Inbox(lossy=True, seconds=0.1)
    inbox.fill(block for block in (sound, sound)).join()
    late = Inbox(lossy=True)
    live = Live(recogniser)
    (kept,) = [c for c in captions(live, inbox) if c.final]
    late.fill(block for block in (sound,)).join()
    (after,) = [c for c in captions(live, late) if c.final]
    assert kept.final == alone.final
    assert after.start == pytest.approx(alone.start + 2 * len(sound) / SAMPLE_RATE)


def streamed(data: bytes, tell=lambda sentence: None) -> np.ndarray:
    """What comes through a real pipe whose writer gives a few bytes at a time."""
    reader, writer = os.pipe()

    def write() -> None:
        with io.FileIO(writer, "wb") as file:
            for at in range(0, len(data), 999):
                file.write(data[at : at + 999])

    thread = threading.Thread(target=write)
    thread.start()
    with io.FileIO(reader) as file:
        try:
            return np.concatenate(list(piped(file, "The pipe", tell)))
        finally:
            file.close()
            thread.join()


def encoded(sound: np.ndarray, container: str, codec: str, rate: int) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.repeat(audio.pcm16(sound), 2)[None], format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(stream.format.name, "stereo", rate, stream.codec_context.frame_size or None)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            out.mux(stream.encode(piece))
    return buffer.getvalue()


def test_raw_samples_through_a_pipe_are_taken_as_they_are(sound: np.ndarray) -> None:
    told: list[str] = []
    pcm = audio.pcm16(sound)
    np.testing.assert_array_equal(streamed(pcm.tobytes() + b"\1", told.append), pcm / np.float32(32768))
    assert told == [f"The pipe is taken for {pipe.RAW}."]


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [("wav", "pcm_s16le", 44_100), ("flac", "flac", 16_000), ("ogg", "libopus", 48_000), ("webm", "libopus", 48_000)],
)
def test_a_container_through_a_pipe_is_decoded(sound: np.ndarray, container: str, codec: str, rate: int) -> None:
    found = streamed(encoded(sound, container, codec, rate))
    assert abs(len(found) - len(sound)) < 0.05 * SAMPLE_RATE
    shift = 200
    assert max(np.corrcoef(found[at : at + 20_000], sound[:20_000])[0, 1] for at in range(0, 2 * shift)) > 0.95


@pytest.mark.parametrize("data", [b"", b"\1", b"RIFF and nothing else", b"OggS" + bytes(500)])
def test_a_pipe_without_sound_is_an_error(data: bytes) -> None:
    with pytest.raises(AudioError, match="The pipe"):
        streamed(data)


def test_a_wav_that_is_still_being_written_is_heard_already(sound: np.ndarray) -> None:
    class Written(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size):
                return data
            raise AssertionError("waited for more than was written yet")

    written = Written(encoded(sound, "wav", "pcm_s16le", 16_000)[:2000])
    assert len(next(piped(written, "The pipe", print))) > 400


def test_a_file_plays_as_long_as_it_is(clip: Path, sound: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    waits: list[float] = []
    monkeypatch.setattr(microphone.time, "monotonic", lambda: 100.0)
    monkeypatch.setattr(stopped, "wait", lambda seconds: waits.append(seconds))
    played = list(playing(clip, stopped))
    assert sum(map(len, played)) == len(sound)
    assert max(map(len, played)) <= BLOCK
    assert waits[-1] == pytest.approx(len(sound) / SAMPLE_RATE)
    stopped.wait = lambda seconds: True
    assert list(playing(clip, stopped)) == []
    with pytest.raises(AudioError, match=r"nowhere\.wav"):
        playing(Path("nowhere.wav"), stopped)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_microphone_is_heard_and_what_it_loses_is_told(plugged, sound: np.ndarray, rate: int, channels: int) -> None:
    silent = np.concatenate([np.zeros(3 * rate + rate // 5, np.float32), np.interp(
        np.arange(0, len(sound), SAMPLE_RATE / rate), np.arange(len(sound)), sound
    ).astype(np.float32)])  # fmt: skip
    opened = plugged(silent, rate, channels)
    told: list[str] = []
    name, giving = microphone.microphone("USB", told.append)
    heard = []
    with pytest.raises(AudioError, match=r"USB-mikrofon gives no more sound.*--list-devices"):  # noqa: PT012
        for block in giving:
            heard.append(block)  # noqa: PERF402
    assert name == "USB-mikrofon"
    assert opened[0].closed
    assert abs(sum(map(len, heard)) - len(silent) * SAMPLE_RATE / rate) < BLOCK
    assert {block.dtype for block in heard} == {np.dtype(np.float32)}
    assert 0.1 < np.abs(np.concatenate(heard)).max() <= 1
    assert [sentence.partition(" lost sound, 1 times")[1] != "" for sentence in told] == [True, False]
    assert "nothing but silence" in told[1]


def test_microphones_are_listed(plugged, hvisk) -> None:
    plugged(np.zeros(0), 48_000, 2)
    assert [(d.number, d.default) for d in devices()] == [(1, True)]
    assert hvisk("--list-devices") == (0, "  1  USB-mikrofon, 2 channels, 48000 Hz  (default)\n", "")
    assert json.loads(hvisk("--list-devices", "--json")[1])[0]["name"] == "USB-mikrofon"


def test_a_missing_microphone_package_or_library_is_told(
    plugged, hvisk, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugged(np.zeros(0))
    code, out, err = hvisk("--model", model, "--device", "7")
    assert (code, out) == (1, "")
    assert "The microphone '7' cannot be used" in err
    assert "--list-devices" in err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingExtra, match=r"pip install 'hvisk\[listen\]'"):
        devices()
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AudioError, match=r"apt install libportaudio2.*--input FILE"):
        devices()


def test_listening_to_a_microphone(plugged, hvisk, model: Path, sound: np.ndarray, text: str, tmp_path: Path) -> None:
    plugged(sound)
    out = tmp_path / "notes.srt"
    code, printed, err = hvisk("--model", model, "--out", out)
    assert (code, printed) == (1, f"{text}\n")  # it was unplugged
    assert "Listening to USB-mikrofon" in err
    assert "lost sound, 1 times" in err
    assert "gives no more sound" in err
    assert text in out.read_text(encoding="utf-8").replace("\n", " ")


def test_listening_to_a_file_in_every_form(hvisk, model: Path, clip: Path, text: str, tmp_path: Path) -> None:
    out = tmp_path / "notes.json"
    code, printed, err = hvisk("--model", model, "--input", clip, "--json", "--out", out)
    assert code == 0
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["final"] for event in events] == [False] * (len(events) - 1) + [True]
    assert events[-1]["text"] == text
    assert all(event["dropped"] == 0 for event in events)
    assert all(after["committed"].startswith(before["committed"]) for before, after in itertools.pairwise(events[:-1]))
    assert f"1 utterances, saved to {out}" in err
    saved = json.loads(out.read_text(encoding="utf-8"))
    assert (saved["text"], saved["seconds"]) == (text, pytest.approx(len(audio.load(clip)) / SAMPLE_RATE, abs=1e-3))
    assert hvisk("--model", model, "--input", clip, "--out", out)[0] == 2  # it is there already
    assert json.loads(out.read_text(encoding="utf-8")) == saved


def test_wrong_calls(hvisk, model: Path, clip: Path, tmp_path: Path) -> None:
    assert hvisk("--input", clip, "--device", "1")[0] == 2
    assert hvisk("--input", clip, "--out", "notes.doc")[0] == 2
    code, out, err = hvisk("--model", model, "--input", tmp_path / "nowhere.wav")
    assert (code, out) == (1, "")
    assert "nowhere.wav" in err
    (tmp_path / "file").touch()
    code, _, err = hvisk("--model", model, "--input", clip, "--out", tmp_path / "file" / "notes.txt")
    assert code == 1
    assert "Give --out another place" in err


def test_ctrl_c_finishes_a_pipe_in_which_nothing_comes_any_more(model: Path, sound: np.ndarray, text: str) -> None:
    command = [*HVISK, "--model", str(model), "--input", "-", "--json"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        run.stdin.write(audio.pcm16(sound[: -SAMPLE_RATE // 4]).tobytes())
        run.stdin.flush()
        first = json.loads(run.stdout.readline())
        assert not first["final"]
        run.send_signal(signal.SIGINT)
        last = json.loads(run.stdout.read().splitlines()[-1])
        assert (last["final"], last["text"]) == (True, text)
        assert (run.wait(), b"Traceback" in run.stderr.read()) == (0, False)


def test_in_a_terminal_a_line_grows_and_scrolls_up(model: Path, sound: np.ndarray, text: str, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([sound, np.zeros(60 * SAMPLE_RATE)]), SAMPLE_RATE)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    command = [*HVISK, "--model", str(model), "--input", str(path)]
    shown = b""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=theirs) as run:
        os.close(theirs)
        while f"\x1b[2m  0:00  \x1b[0m{text}".encode() not in shown:
            shown += os.read(ours, 1000)
        run.send_signal(signal.SIGINT)
        while True:
            try:
                shown += os.read(ours, 1000)
            except OSError:  # the other side is closed
                break
        assert run.wait() == 130  # a file that was not heard to its end
    os.close(ours)
    before = shown[: shown.index(text.encode())]
    assert b"\x1b[2m" in before.partition(b"Ctrl-C")[2]  # the faint text that came first
    assert b"1 utterances" in shown
