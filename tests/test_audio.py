import io
import os
import random
import socket
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from hvisk import audio, container
from hvisk.audio import SAMPLE_RATE, decode, encode, load, seconds
from hvisk.errors import AudioError

TONE = 1000.0  # Hz
LEVEL = 0.5
LAYOUTS = {1: "mono", 2: "stereo", 8: "7.1"}
RATES = (8_000, 16_000, 44_100, 48_000, 96_000, 192_000)


def tone(rate: int, channels: int, duration: float = 1.0) -> np.ndarray:
    """(samples, channels) float32, the same sine in every channel."""
    time = np.arange(round(rate * duration)) / rate
    sine = (LEVEL * np.sin(2 * np.pi * TONE * time)).astype(np.float32)
    return np.tile(sine[:, None], (1, channels))


def mux(
    path: Path,
    codec: str,
    rate: int,
    samples: np.ndarray,
    *,
    container: str | None = None,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    video: float = 0.0,
) -> Path:
    """Write float32 (samples, channels) with FFmpeg's own encoders; `video` seconds of pictures where it is above 0."""
    layout = LAYOUTS[samples.shape[1]]
    with av.open(path, "w", format=container, options=options or {}) as out:
        pictures = None
        if video:
            pictures = out.add_stream("mpeg4", rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        sound = out.add_stream(codec, rate=rate, options=codec_options or {})
        sound.layout = layout
        if pictures:
            for index in range(round(10 * video)):
                image = np.full((64, 64, 3), index * 5 % 255, np.uint8)
                out.mux(pictures.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
            out.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.reshape(1, -1)), "flt", layout)
        frame.sample_rate = rate
        context = sound.codec_context
        fit = av.AudioResampler(context.format, context.layout, rate, frame_size=context.frame_size or None)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            out.mux(sound.encode(piece))
        out.mux(sound.encode(None))
    return path


def frequency(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * SAMPLE_RATE / len(samples))


def level(samples: np.ndarray) -> float:
    """The amplitude of a sine, from the middle half, clear of fades."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(np.sqrt(2 * np.mean(middle.astype(np.float64) ** 2)))


def check_tone(samples: np.ndarray, duration: float, late: float, amplitude: float, loss: float) -> None:
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert np.isfinite(samples).all()
    assert abs(seconds(samples) - duration) <= late
    assert abs(frequency(samples) - TONE) < 2.0
    assert abs(level(samples) / amplitude - 1) < loss


def refused(source: str | Path | bytes, *words: str, name: str | None = None) -> str:
    """Assert one AudioError that names the file and carries `words`; return it."""
    with pytest.raises(AudioError) as caught:
        load(source, name=name)
    message = str(caught.value)
    expected = name or Path(source).name  # type: ignore[arg-type]
    for word in (expected, *words):
        assert word in message, message
    assert "\n" not in message
    return message


# --- what goes in ---------------------------------------------------------------------------------------------------

LOSSLESS = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le")


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", RATES)
def test_wav_of_every_sample_format_keeps_its_tone(tmp_path: Path, rate: int, channels: int) -> None:
    for codec in LOSSLESS:
        path = mux(tmp_path / f"{codec}.wav", codec, rate, tone(rate, channels))
        check_tone(load(path), 1.0, 0.001, LEVEL, 0.01)


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", RATES)
def test_flac_keeps_its_tone(tmp_path: Path, rate: int, channels: int) -> None:
    check_tone(load(mux(tmp_path / "a.flac", "flac", rate, tone(rate, channels))), 1.0, 0.001, LEVEL, 0.01)


@pytest.mark.parametrize("channels", [1, 2])  # MP3 has no more
@pytest.mark.parametrize("rate", RATES[:4])  # nor rates above 48 kHz
def test_mp3_keeps_its_tone(tmp_path: Path, rate: int, channels: int) -> None:
    path = mux(tmp_path / "a.mp3", "libmp3lame", rate, tone(rate, channels))
    check_tone(load(path), 1.0, 0.001, LEVEL, 0.1)  # the LAME header states the priming, so it is cut to the sample
    bare = mux(tmp_path / "bare.mp3", "libmp3lame", rate, tone(rate, channels), options={"write_xing": "0"})
    check_tone(load(bare), 1.0, 3 * 1152 / rate, LEVEL, 0.1)  # without it, up to three frames of priming and padding


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "aac", "mkv"])
@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", RATES[:5])  # AAC ends at 96 kHz
def test_aac_keeps_its_tone(tmp_path: Path, rate: int, channels: int, suffix: str) -> None:
    path = mux(tmp_path / f"a.{suffix}", "aac", rate, tone(rate, channels))
    # Two packets of 1024 samples: priming and the padded last one. The subwoofer's channel is muted.
    check_tone(load(path), 1.0, 2 * 1024 / rate + 0.001, LEVEL, 0.2 if channels == 8 else 0.1)


@pytest.mark.parametrize("suffix", ["opus", "ogg", "webm"])
@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])  # Opus has no 44.1 kHz
def test_opus_keeps_its_tone(tmp_path: Path, rate: int, channels: int, suffix: str) -> None:
    path = mux(tmp_path / f"a.{suffix}", "libopus", rate, tone(rate, channels))
    check_tone(load(path), 1.0, 0.021, LEVEL, 0.2 if channels == 8 else 0.1)  # one packet of 20 ms


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("rate", RATES)
def test_vorbis_keeps_its_tone(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, tone(rate, channels), rate, format="OGG", subtype="VORBIS")
    # FFmpeg leaves the last block of a file of one page whole: at most 2048 samples.
    check_tone(load(path), 1.0, 2048 / rate, LEVEL, 0.2 if channels == 8 else 0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_video_gives_its_sound_even_when_the_pictures_go_on_longer(tmp_path: Path, suffix: str) -> None:
    path = mux(tmp_path / f"film.{suffix}", "aac", 48_000, tone(48_000, 2, 1.0), video=3.0)
    check_tone(load(path), 1.0, 0.045, LEVEL, 0.1)


def test_bytes_give_the_same_as_the_path_and_as_text(tmp_path: Path) -> None:
    for suffix, codec, rate in (("wav", "pcm_s16le", 16_000), ("mp3", "libmp3lame", 44_100)):
        path = mux(tmp_path / f"a.{suffix}", codec, rate, tone(rate, 2))
        assert np.array_equal(load(path), load(path.read_bytes()))
        assert np.array_equal(load(path), load(str(path)))


def test_float_wav_at_16_khz_comes_back_to_the_bit_and_beyond_full_scale(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).normal(0, 1, 5_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="FLOAT")
    assert np.array_equal(load(tmp_path / "a.wav"), samples)


def test_both_readers_agree_at_16_khz(tmp_path: Path) -> None:
    samples = np.random.default_rng(2).uniform(-1, 1, (20_000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE, subtype="PCM_16")  # libsndfile
    soundfile.write(tmp_path / "a.aiff", samples, SAMPLE_RATE, subtype="PCM_16")  # FFmpeg
    assert np.allclose(load(tmp_path / "a.wav"), load(tmp_path / "a.aiff"), atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize("channel", range(8))
def test_every_channel_counts_the_same_in_the_mix(tmp_path: Path, rate: int, channel: int) -> None:
    samples = tone(rate, 8)
    samples[:, [other for other in range(8) if other != channel]] = 0
    check_tone(load(mux(tmp_path / "a.wav", "pcm_s16le", rate, samples)), 1.0, 0.001, LEVEL / 8, 0.01)


def test_what_16_khz_cannot_hold_is_filtered_out_not_folded_down(tmp_path: Path) -> None:
    time = np.arange(48_000) / 48_000
    samples = (LEVEL * np.sin(2 * np.pi * 11_000 * time)).astype(np.float32)[:, None]
    assert level(load(mux(tmp_path / "a.wav", "pcm_s16le", 48_000, samples))) < LEVEL / 1000


def test_recordings_joined_end_to_end_are_read_through_a_change_of_rate(tmp_path: Path) -> None:
    bare = {"write_xing": "0"}
    first = mux(tmp_path / "1.mp3", "libmp3lame", 44_100, tone(44_100, 1), options=bare)
    second = mux(tmp_path / "2.mp3", "libmp3lame", 22_050, tone(22_050, 2), options=bare)
    (tmp_path / "both.mp3").write_bytes(first.read_bytes() + second.read_bytes())
    samples = load(tmp_path / "both.mp3")
    assert abs(seconds(samples) - seconds(load(first)) - seconds(load(second))) < 1152 / 44_100  # a frame at the joint
    assert abs(frequency(samples[:14_000]) - TONE) < 3
    assert abs(frequency(samples[-14_000:]) - TONE) < 3


def test_tags_in_an_old_encoding_do_not_matter(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(44_100, 1), 44_100)
    plain = (tmp_path / "a.wav").read_bytes()
    title = "Interview på Fanø".encode("latin-1") + b"\0"
    info = b"INFOINAM" + struct.pack("<I", len(title)) + title
    tagged = plain[12:] + b"LIST" + struct.pack("<I", len(info)) + info
    assert seconds(load(b"RIFF" + struct.pack("<I", len(tagged) + 4) + b"WAVE" + tagged)) == 1.0


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_missing_file_a_folder_a_pipe_and_an_empty_file_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "væk.wav", "does not exist", "flac")
    (tmp_path / "mappe.wav").mkdir()
    refused(tmp_path / "mappe.wav", "is a folder")
    os.mkfifo(tmp_path / "rør.wav")
    refused(tmp_path / "rør.wav", "not an ordinary file")
    (tmp_path / "tom.wav").touch()
    refused(tmp_path / "tom.wav", "is empty (0 bytes)")
    refused(b"", "is empty", name="klip 7")


def test_bytes_without_a_name_are_called_by_their_size() -> None:
    with pytest.raises(AudioError, match="a sound of 5 bytes"):
        load(b"hello")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "låst.wav").write_bytes(b"RIFF")

    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)  # root reads what is locked, so the mode bits prove nothing
    refused(tmp_path / "låst.wav", "cannot be read: Permission denied")


def test_a_message_can_be_printed_whatever_the_name() -> None:
    with pytest.raises(AudioError) as caught:
        load(Path(os.fsdecode("Fanø.wav".encode("latin-1"))))
    assert "Fan\\udcf8.wav does not exist" in str(caught.value).encode("utf-8").decode("utf-8")


@pytest.mark.parametrize("suffix", ["mp3", "wav", "m4a", "ogg", "flac"])
def test_text_under_another_name_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"noter.{suffix}"
    path.write_text("Det her er ikke en lydfil.\n" * 200, encoding="utf-8")
    refused(path, "Accepted: wav")


def test_a_playlist_is_refused_and_neither_opens_a_file_nor_calls_anybody(tmp_path: Path) -> None:
    mux(tmp_path / "a.ts", "aac", 48_000, tone(48_000, 2))
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n"
    (tmp_path / "here.m3u8").write_text(f"{head}{tmp_path / 'a.ts'}\n#EXT-X-ENDLIST\n")
    refused(tmp_path / "here.m3u8", "not a sound file")
    (tmp_path / "radio.sdp").write_text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=audio 5004 RTP/AVP 0\n")
    refused(tmp_path / "radio.sdp", "not a sound file")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        (tmp_path / "away.m3u8").write_text(f"{head}{url}\n#EXT-X-ENDLIST\n")
        refused(tmp_path / "away.m3u8", "not a sound file")
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    with av.open(tmp_path / "stum.mp4", "w") as out:
        pictures = out.add_stream("mpeg4", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        for _ in range(5):
            out.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        out.mux(pictures.encode(None))
    refused(tmp_path / "stum.mp4", "has no sound track")


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_sound_of_no_length_is_refused(tmp_path: Path, suffix: str, rate: int) -> None:
    soundfile.write(tmp_path / f"nul.{suffix}", np.zeros((0, 1), np.float32), rate)
    refused(tmp_path / f"nul.{suffix}", "holds no sound")


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_samples_that_are_not_numbers_are_refused(tmp_path: Path, rate: int, value: float) -> None:
    samples = tone(rate, 2).astype(np.float64)
    samples[rate // 2, 1] = value
    soundfile.write(tmp_path / "nan.wav", samples, rate, subtype="DOUBLE")
    refused(tmp_path / "nan.wav", "not numbers", "16-bit wav")


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_samples_too_large_to_mix_are_refused_without_a_warning(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "stor.wav", np.full((rate, 2), 3e38), rate, subtype="FLOAT")
    refused(tmp_path / "stor.wav", "not numbers")
    soundfile.write(tmp_path / "begge.wav", np.tile([np.inf, -np.inf], (rate, 1)), rate, subtype="FLOAT")
    refused(tmp_path / "begge.wav", "not numbers")


def test_more_channels_than_can_be_mixed_are_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "64.wav", np.tile(tone(44_100, 8), (1, 8)), 44_100)
    check_tone(load(tmp_path / "64.wav"), 1.0, 0.001, LEVEL, 0.01)
    soundfile.write(tmp_path / "65.wav", np.zeros((44_100, 65)), 44_100)
    refused(tmp_path / "65.wav", "65 channels", "mono to 64 channels")


def test_a_rate_that_is_no_recording_s_is_refused() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(44_100, 1), 44_100, format="WAV")
    for rate in (1, 7_999, 192_001):
        data = bytearray(buffer.getvalue())
        data[24:28] = struct.pack("<I", rate)
        refused(bytes(data), f"{rate} Hz", "8 to 192 kHz", name="hurtig.wav")


# --- what is not whole ----------------------------------------------------------------------------------------------

WHOLE = {
    "pcm.wav": ("pcm_s16le", 44_100, {}),
    "corpus.wav": ("pcm_s16le", 16_000, {}),
    "float.wav": ("pcm_f32le", 44_100, {}),
    "a.flac": ("flac", 48_000, {}),
    "corpus.flac": ("flac", 16_000, {}),
    "a.mp3": ("libmp3lame", 44_100, {}),
    "front.m4a": ("aac", 44_100, {"movflags": "faststart"}),
    "a.mkv": ("aac", 48_000, {}),
    "a.webm": ("libopus", 48_000, {}),
    "a.opus": ("libopus", 48_000, {}),
    "a.ogg": ("libopus", 48_000, {}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_short_is_named_and_its_part_given_on_request(tmp_path: Path, name: str) -> None:
    codec, rate, options = WHOLE[name]
    path = mux(tmp_path / name, codec, rate, tone(rate, 2, 4.0), options=options)
    assert abs(seconds(load(path)) - 4.0) < 0.05
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    refused(path, "cut short", "partial=True")
    part = load(path, partial=True)
    assert 1.4 < seconds(part) < 2.9
    assert abs(frequency(part) - TONE) < 2


def test_a_long_file_may_not_lose_its_last_seconds(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8_000 * 600, np.float32), 8_000, subtype="PCM_U8")
    path.write_bytes(path.read_bytes()[: -8_000 * 2])
    refused(path, "declares 600.0 s", "598.0 s are there")


def test_an_mp3_behind_a_cover_picture_is_still_known_to_be_cut(tmp_path: Path) -> None:
    data = mux(tmp_path / "a.mp3", "libmp3lame", 44_100, tone(44_100, 1, 4.0)).read_bytes()
    sound = data[data.index(b"\xff\xfb") :]
    size = 300_000
    tag = b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)
    assert abs(seconds(load(tag + sound)) - 4.0) < 0.05
    refused(tag + sound[: len(sound) // 2], "cut short", name="omslag.mp3")


def test_a_webm_without_a_duration_for_each_track_is_still_known_to_be_cut(tmp_path: Path) -> None:
    data = mux(tmp_path / "a.webm", "libopus", 48_000, tone(48_000, 1, 4.0)).read_bytes()
    data = data.replace(b"DURATION", b"OTHERTAG")
    assert abs(seconds(load(data)) - 4.0) < 0.05
    refused(data[: len(data) // 2], "cut short", name="a.webm")


def test_a_recording_trimmed_by_its_edit_list_is_whole(tmp_path: Path) -> None:
    """A phone trims a voice memo so: the sound stays in the file, the list says which part is the recording."""
    data = bytearray(mux(tmp_path / "a.m4a", "aac", 44_100, tone(44_100, 1, 4.0)).read_bytes())
    at = data.index(b"elst") + 12  # after the name, version, flags and count: the duration, in thousandths
    assert struct.unpack(">I", data[at : at + 4])[0] == pytest.approx(4000, abs=50)
    data[at : at + 4] = struct.pack(">I", 2000)
    assert abs(seconds(load(bytes(data))) - 2.0) < 0.05


def test_an_mp4_whose_index_is_lost_is_refused(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mp4", "aac", 44_100, tone(44_100, 1), video=1.0)
    path.write_bytes(path.read_bytes()[:-2000])
    refused(path, "index is lost")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_film_cut_short_is_named(tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    path = mux(tmp_path / f"film.{suffix}", "aac", 44_100, tone(44_100, 1, 4.0), video=4.0, options=options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "cut short")


def test_a_damaged_middle_is_named(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.aac", "aac", 44_100, tone(44_100, 1, 4.0))
    data = bytearray(path.read_bytes())
    generator = random.Random(3)
    for _ in range(100):
        data[generator.randrange(len(data))] ^= 0x55
    path.write_bytes(data)
    refused(path, "packets cannot be decoded", "partial=True")
    assert 0 < seconds(load(path, partial=True)) < 4.1


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_from_a_pipe_that_does_not_know_its_length_is_whole(size: int) -> None:
    for rate in (16_000, 44_100):
        buffer = io.BytesIO()
        soundfile.write(buffer, tone(rate, 1), rate, format="WAV")
        data = bytearray(buffer.getvalue())
        data[4:8] = struct.pack("<I", size)
        at = data.index(b"data") + 4
        data[at : at + 4] = struct.pack("<I", size)
        assert abs(seconds(load(bytes(data))) - 1.0) < 0.001


def test_an_mp3_of_varying_bit_rate_without_a_length_is_whole(tmp_path: Path) -> None:
    samples = np.zeros((44_100 * 6, 1), np.float32)
    samples[:88_200, 0] = np.random.default_rng(4).normal(0, 0.2, 88_200)
    path = tmp_path / "a.mp3"
    mux(path, "libmp3lame", 44_100, samples, options={"write_xing": "0"}, codec_options={"compression_level": "5"})
    assert abs(seconds(load(path)) - 6.0) < 0.1
    mux(path, "libmp3lame", 44_100, samples[::-1], options={"write_xing": "0"}, codec_options={"b": "0", "q": "2"})
    assert abs(seconds(load(path)) - 6.0) < 0.1


def test_a_streamed_mp4_without_a_length_is_whole(tmp_path: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
    path = mux(tmp_path / "a.mp4", "aac", 48_000, tone(48_000, 1, 3.0), options=options)
    assert abs(seconds(load(path)) - 3.0) < 0.05


def test_tags_after_the_sound_of_an_mp3_do_not_matter(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mp3", "libmp3lame", 44_100, tone(44_100, 1))
    path.write_bytes(path.read_bytes() + b"TAG" + b"Interview".ljust(125, b"\0") + b"APETAGEX" + bytes(range(200)))
    assert abs(seconds(load(path)) - 1.0) < 0.08


# --- mutations ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("healthy")
    made = [
        mux(folder / name, codec, rate, tone(rate, 2), options=options)
        for name, (codec, rate, options) in WHOLE.items()
    ]
    made.append(mux(folder / "film.mp4", "aac", 48_000, tone(48_000, 2), video=1.0))
    made.append(mux(folder / "a.aac", "aac", 22_050, tone(22_050, 1)))
    made.append(folder / "vorbis.ogg")
    soundfile.write(made[-1], tone(44_100, 2), 44_100, format="OGG", subtype="VORBIS")
    return [path.read_bytes() for path in made]


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("way", ["cut", "flip the header", "flip anywhere", "zero the header", "take a piece out"])
def test_a_mutated_file_gives_sound_or_one_named_error(
    healthy: list[bytes], way: str, partial: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    generator = random.Random(f"{way} {partial}")
    outcomes = []
    for whole in healthy * 2:
        data = bytearray(whole)
        if way == "cut":
            del data[generator.randrange(len(data)) :]
        elif way == "flip the header":
            for _ in range(generator.randint(1, 8)):
                data[generator.randrange(300)] ^= 1 << generator.randrange(8)
        elif way == "flip anywhere":
            for _ in range(generator.randint(1, 200)):
                data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        elif way == "zero the header":
            start, length = generator.randrange(400), generator.randint(1, 60)
            data[start : start + length] = bytes(length)
        else:
            start, end = sorted(generator.sample(range(len(data)), 2))
            del data[start:end]
        message = ""
        try:
            samples = load(bytes(data), name="båndet", partial=partial)
        except AudioError as error:
            message = str(error)
        outcomes.append(not message)
        if message:
            assert "båndet" in message
        else:
            assert samples.dtype == np.float32
            assert samples.ndim == 1
            assert 0 < samples.size < 60 * SAMPLE_RATE
            assert np.isfinite(samples).all()
    assert False in outcomes  # the mutations bite
    assert capfd.readouterr() == ("", "")


# --- clips in shards ------------------------------------------------------------------------------------------------


def test_flac_keeps_16_bit_sound_to_the_bit() -> None:
    samples = np.random.default_rng(5).integers(-32768, 32768, 30_000).astype(np.float32) / 32768
    data = encode(samples)
    assert data[:4] == b"fLaC"
    assert np.array_equal(decode(data), samples)
    assert np.array_equal(load(data), samples)


def test_opus_keeps_the_tone_the_length_and_a_tenth_of_the_bytes() -> None:
    samples = tone(SAMPLE_RATE, 1, 35.0)[:, 0]
    data = encode(samples, "opus")
    assert data[:4] == b"OggS"
    assert len(data) < len(samples) * 2 / 5
    check_tone(decode(data), 35.0, 0.001, LEVEL, 0.1)
    assert abs(seconds(load(data)) - 35.0) < 0.021


@pytest.mark.parametrize("codec", ["flac", "opus"])
def test_encoding_clips_what_is_too_loud(codec: str) -> None:
    samples = 20 * tone(SAMPLE_RATE, 1)[:, 0]  # ten times full scale
    back = decode(encode(samples, codec))  # type: ignore[arg-type]
    assert np.array_equal(back, decode(encode(np.clip(samples, -1, 1), codec)))  # type: ignore[arg-type]
    assert np.mean(back * samples > -1e-3) > 0.99  # nothing wraps around to the other sign


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.zeros((5, 2), np.float32), np.array([0.0, np.nan], np.float32)]
)
def test_what_is_no_clip_is_not_encoded(samples: np.ndarray) -> None:
    with pytest.raises(AudioError, match="1-D, finite and not empty"):
        encode(samples)


def test_damaged_clips_are_errors() -> None:
    data = encode(tone(SAMPLE_RATE, 1)[:, 0])
    for bad in (b"", b"RIFFabcd", data[:20], data[100:]):
        with pytest.raises(AudioError, match="clip of"):
            decode(bad)
    for rate, channels in ((16_000, 2), (8_000, 1)):
        other = io.BytesIO()
        soundfile.write(other, tone(rate, channels), rate, format="FLAC")
        with pytest.raises(AudioError, match="must be 16 kHz mono"):
            decode(other.getvalue())


def test_the_accepted_rates_are_the_ones_the_message_states() -> None:
    assert f"{container.MIN_RATE // 1000} to {container.MAX_RATE // 1000} kHz" in audio.ACCEPTED
