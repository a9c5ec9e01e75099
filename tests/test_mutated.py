"""Three hundred damaged recordings in one batch: none crashes it, holds it up, leaves half a file, or harms the others."""

import json
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak

MUTANTS = 288  # beside those that are made by hand
SOUND = speak("Jeg elsker tebirkes.")
LONGEST = 10  # seconds that one recording may take
HOURS_20 = 20 * 3600

# A recording is watched from C: where it takes too long, the process ends with a traceback, whatever holds it up.
BATCH = """
import faulthandler, json, sys
from pathlib import Path
from rich.console import Console
from hvisk.recogniser import batch
from hvisk.recogniser.engine import Recogniser

class Watched(list):
    def __iter__(self):
        for recording in super().__iter__():
            faulthandler.dump_traceback_later(int(sys.argv[4]), exit=True)
            yield recording
        faulthandler.cancel_dump_traceback_later()

recordings = Watched(map(Path, json.loads(Path(sys.argv[1]).read_text())))
options = batch.Options(form="srt", beam_size=1, words=True, guards=None)
recogniser = Recogniser.load(Path(sys.argv[2]), threads=1)
broken = batch.transcribe(recordings, recogniser, options, Path(sys.argv[3]), Console(stderr=True))
Path(sys.argv[3], "broken.json").write_text(json.dumps(list(map(str, broken))))
"""


def encode(path: Path, codec: str, *, rate: int = SAMPLE_RATE, layout: str = "mono", video: bool = False) -> None:
    """Write SOUND, after a picture or two where the container is to be a film."""
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".ts" else None) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if video:
            film = container.add_stream("mpeg4", rate=10)
            film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            container.mux([*film.encode(picture), *film.encode(None)])
        frame = av.AudioFrame.from_ndarray(SOUND[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
        pieces = av.AudioFifo()
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            pieces.write(piece)
        while piece := pieces.read(stream.frame_size or 1024, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def containers(folder: Path) -> list[Path]:
    soundfile.write(folder / "a.ogg", SOUND, SAMPLE_RATE, format="OGG", subtype="VORBIS")
    encode(folder / "a.wav", "pcm_s16le")
    encode(folder / "float.wav", "pcm_f32le", rate=48_000, layout="stereo")
    encode(folder / "phone.wav", "adpcm_ima_wav")
    encode(folder / "a.flac", "flac")
    encode(folder / "a.opus", "libopus", rate=48_000)
    encode(folder / "a.mp3", "libmp3lame")
    encode(folder / "a.m4a", "aac")
    encode(folder / "a.mp4", "aac", video=True)
    encode(folder / "a.webm", "libopus", rate=48_000)
    encode(folder / "a.mkv", "flac")
    encode(folder / "a.avi", "libmp3lame", video=True)
    encode(folder / "a.aac", "aac")
    encode(folder / "a.aiff", "pcm_s16be")
    encode(folder / "a.caf", "pcm_s16le")
    encode(folder / "a.ts", "aac")
    return sorted(folder.iterdir())


def cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 10, 100])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def spoil_header(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 4, 16])):
        data[rng.randrange(min(len(data), 400))] = rng.choice([0, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def lie_about_sizes(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 2, 3])):
        at = rng.randrange(min(len(data) - 4, 600))
        data[at : at + 4] = rng.choice([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)])


def wipe(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    end = min(len(data), at + rng.randrange(1, 3000))
    data[at:end] = bytes([rng.choice([0, 0xFF])]) * (end - at)


def lose_and_repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    taken = data[at : at + rng.randrange(1, 3000)]
    del data[at : at + rng.randrange(1, 500)]
    at = rng.randrange(len(data) + 1)
    data[at:at] = taken


MUTATIONS: list[Callable[[bytearray, random.Random], None]]
MUTATIONS = [cut, flip_bits, spoil_header, lie_about_sizes, wipe, lose_and_repeat]


def by_hand(folder: Path, real: dict[str, bytes]) -> dict[str, bool | None]:
    """Write what no mutation finds; return each name and whether it is a recording (None: either is right)."""
    made: dict[str, bool | None] = {}

    def write(name: str, data: bytes, good: bool | None) -> None:
        (folder / name).write_bytes(data)
        made[name] = good

    def sound(name: str, samples: np.ndarray, good: bool | None, subtype: str | None = None) -> None:
        soundfile.write(folder / name, samples, SAMPLE_RATE, subtype=subtype)
        made[name] = good

    write("nothing.wav", b"", False)
    write("nothing-packed.mp3", b"", False)
    write("text.mp3", "Rødgrød med fløde".encode() * 300, False)
    write("zeros.m4a", bytes(20_000), False)
    sound("one-sample.wav", SOUND[:1], True)
    sound("one-sample-packed.flac", SOUND[:1], True)
    sound("no-sample.wav", SOUND[:0], False)
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        spoilt = SOUND.copy()
        spoilt[5000] = value
        sound(f"{name}.wav", spoilt, False, "FLOAT")
    sound("clipped.wav", np.clip(SOUND * 100, -1, 1), True)
    sound("beyond-full-scale.wav", SOUND * 1e6, True, "FLOAT")
    sound("direct-current.wav", np.full(SAMPLE_RATE, 0.8), True)
    sound("offset.flac", np.clip(SOUND + 0.5, -1, 1), True)
    sound("silence.flac", np.zeros(SAMPLE_RATE), True)
    for name, other in (("a.wav", "mp3"), ("a.mp3", "flac"), ("a.m4a", "wav"), ("a.flac", "m4a"), ("a.webm", "aac")):
        write(f"{name[2:]}-called.{other}", real[name], True)
    # Headers that promise 20 hours, and a second that is there.
    samples = HOURS_20 * SAMPLE_RATE
    wav = bytearray(real["a.wav"])
    wav[4:8], at = struct.pack("<I", 2 * samples + 36), wav.index(b"data") + 4
    wav[at : at + 4] = struct.pack("<I", 2 * samples)
    write("20-hours-wav.wav", bytes(wav), None)  # more than 2 GB: what recorders say that do not know
    flac = bytearray(real["a.flac"])  # STREAMINFO: 36 bits of samples after 20 of the rate, 3 of channels, 5 of depth
    fields = int.from_bytes(flac[18:26], "big") >> 36 << 36 | samples
    flac[18:26] = fields.to_bytes(8, "big")
    write("20-hours-flac.flac", bytes(flac), False)
    m4a = bytearray(real["a.m4a"])
    at = m4a.index(b"mdhd") + 16  # after version, flags, two dates: the time scale, then the duration in it
    m4a[at + 4 : at + 8] = struct.pack(">I", HOURS_20 * struct.unpack(">I", m4a[at : at + 4])[0])
    write("20-hours-m4a.m4a", bytes(m4a), None)
    mkv = bytearray(real["a.mkv"])
    at = mkv.index(b"\x44\x89\x88") + 3  # Duration, 8 bytes: milliseconds
    mkv[at : at + 8] = struct.pack(">d", HOURS_20 * 1000.0)
    write("20-hours-mkv.mkv", bytes(mkv), None)
    return made


def transcribe(recordings: list[Path], model: Path, out: Path) -> tuple[list[str], str]:
    out.mkdir()
    listed = out.with_suffix(".json")
    listed.write_text(json.dumps(list(map(str, recordings))))
    command = [sys.executable, "-c", BATCH, str(listed), str(model), str(out), str(LONGEST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((out / "broken.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in containers(tmp_path_factory.mktemp("real"))}


def test_a_batch_survives_three_hundred_damaged_recordings(
    real: dict[str, bytes], random_ct2: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir()
    judged = by_hand(folder, real)
    rng = random.Random(20)
    for number in range(MUTANTS):
        name = sorted(real)[number % len(real)]
        data = bytearray(real[name])
        MUTATIONS[number // len(real) % len(MUTATIONS)](data, rng)
        (folder / f"{number:03d}-{name}").write_bytes(data)
    damaged = sorted(folder.iterdir())
    assert len(damaged) >= 300
    (tmp_path / "whole").mkdir()
    whole = [tmp_path / "whole" / f"whole-{kind}.{kind}" for kind in ("wav", "m4a", "opus")]
    for path in whole:
        path.write_bytes(real[f"a{path.suffix}"])
    third = len(damaged) // 3
    parts = [damaged[at : at + third] for at in range(0, len(damaged), third)]
    recordings = [path for i, part in enumerate(parts) for path in (*part, *whole[i : i + 1])]
    broken, told = transcribe(recordings, random_ct2, tmp_path / "out")

    # Every recording has its whole transcript, or one line that names it and says what is wrong.
    written = {path.name for path in (tmp_path / "out").iterdir()} - {"broken.json"}
    assert written == {f"{path.stem}.srt" for path in recordings if str(path) not in broken}
    errors = re.findall(r"^error: (.+?\.\w+) ", told, re.MULTILINE)
    assert errors == broken
    assert "Traceback" not in told
    for name in written:
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert re.fullmatch(r"(\d+\n[\d:,]+ --> [\d:,]+\n(.+\n){1,2}\n)*", text), name
    for name, good in judged.items():
        assert good is None or good == (str(folder / name) not in broken), name
    assert len(broken) > 60
    assert len(written) > 60

    # The recordings that are whole say what they say alone.
    _, _ = transcribe(whole, random_ct2, tmp_path / "alone")
    for path in whole:
        text = (tmp_path / "out" / f"{path.stem}.srt").read_text(encoding="utf-8")
        assert text == (tmp_path / "alone" / f"{path.stem}.srt").read_text(encoding="utf-8")
        assert "-->" in text
