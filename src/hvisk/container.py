"""What is inside a sound file: FFmpeg opens it, tells how much of it there should be, and decodes its first sound track.

opened -> _frames -> resampled -> mono float32 at 16 kHz, a block at a time; and a phrase that says what is missing
"""

import contextlib
import io
import struct
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from hvisk.errors import AudioError

SAMPLE_RATE = 16_000  # Hz; what every Whisper encoder is trained on
MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz; telephone to studio. A header that claims 1 Hz would fill the memory

ACCEPTED = (
    "Accepted: wav, flac, mp3, ogg, opus, m4a, aac, webm and the sound of mp4, mov, mkv or avi, at 8 to 192 kHz, "
    "from mono to 64 channels"
)
# Only containers that hold sound themselves. FFmpeg would also follow playlists (HLS, concat, SDP) out to the network,
# whatever the file is called, and nothing may leave the machine.
CONTAINERS = "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,webm"

SLACK_SECONDS = 0.25  # priming and padding: AAC and Opus headers count up to 2 packets (< 0.1 s) that are never heard
SLACK_SHARE = 0.001  # recorders round their headers; 3.6 s an hour
# A damaged CAF may give its samples one at a time, ten thousand times as slowly as real packets of hundreds.
TINY, MOST_TINY = 8, 1000
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most: header, segment table, segments


class _Source:
    """A file as FFmpeg reads it. A damaged one makes it seek to before the beginning, and PyAV prints each exception."""

    def __init__(self, file: BinaryIO) -> None:
        self.name: str = getattr(file, "name", "")
        self.read, self.tell, self._seek = file.read, file.tell, file.seek

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -1


@contextlib.contextmanager
def opened(file: BinaryIO, label: str) -> Iterator[tuple[Any, Any]]:
    """Open a file with FFmpeg: the container and its first sound track, which can be decoded."""
    file.seek(0)
    try:
        container = av.open(
            _Source(file),
            mode="r",
            options={"format_whitelist": CONTAINERS},
            metadata_errors="replace",  # tags in Latin-1 ("Interview på Fanø") are common and do not matter here
        )
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(
            f"{label} is not a sound file that hvisk can read, or its beginning or index is lost. {ACCEPTED}."
        ) from error
    with contextlib.closing(container):
        if not container.streams.audio:
            raise AudioError(f"{label} has no sound track. {ACCEPTED}.")
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise AudioError(f"{label} is coded in a way that hvisk cannot decode. {ACCEPTED}.")
        if not MIN_RATE <= stream.rate <= MAX_RATE:
            raise AudioError(f"{label} claims a sample rate of {stream.rate} Hz. {ACCEPTED}.")
        yield container, stream


def decoded(
    file: BinaryIO, promised: tuple[int, int] | None, size: int, label: str, channel: int | None
) -> Generator[np.ndarray, None, str]:
    """Yield the samples FFmpeg finds; return a phrase that says what is missing, empty where nothing is."""
    with opened(file, label) as (container, stream):
        if channel is not None and not 0 <= channel < stream.channels:
            raise AudioError(f"{label} has no channel {channel}, only 0 to {stream.channels - 1}.")
        count, samples = _Count(), 0
        try:
            for block in resampled(_frames(container, stream, count), channel):
                samples += len(block)
                yield block
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(f"{label} has {stream.channels} channels that cannot be mixed. {ACCEPTED}.") from error
        declared = _declared_seconds(container, stream)
    found = samples / SAMPLE_RATE
    if not samples:
        return ""
    if promised:
        start, end_byte = promised
        declared = found * (end_byte - start) / (size - start)
    if declared and found < declared * (1 - SLACK_SHARE) - SLACK_SECONDS:
        return f"it declares {declared:.1f} s of sound and {found:.1f} s are there"
    if (
        count.bad > 1 + count.packets // 1000
    ):  # one: a tag or a half frame at the end of an MP3 or AAC is everyday and harmless
        return f"{count.bad} of its {count.packets} packets cannot be decoded, and {found:.1f} s can"
    if _ogg_breaks_off(file, size):
        return f"it breaks off in the middle of a page, after {found:.1f} s"
    return ""


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """Return the duration that the container states, None where FFmpeg could only guess it from the bit rate."""
    kind = container.format.name
    if kind == "flac" or kind.startswith("mov"):
        return float(stream.duration * stream.time_base) if stream.duration else None
    if kind.startswith("matroska"):
        if tag := stream.metadata.get("DURATION"):  # "00:00:02.014000000", of this track alone
            with contextlib.suppress(ValueError):
                hours, minutes, rest = tag.split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(rest)
        elif len(container.streams) == 1 and not stream.codec_context.bit_rate and container.duration:
            return float(container.duration / av.time_base)
    return None


def promised_span(file: BinaryIO) -> tuple[int, int] | None:
    """Return where the header of a WAV or MP3 says that its sound starts and ends, in bytes; None where it is silent.

    FFmpeg trims a WAV to what is there, and does not tell whether an MP3's duration is a header's or a guess.
    """
    head = peek(file, 0, 10)
    if head[:4] == b"RIFF" and len(head) == 10:
        end = struct.unpack("<I", head[4:8])[0] + 8
        return (0, end) if end < 0x7FFF0000 else None  # recorders that write to a pipe put their largest number here
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:  # its length, often that of a cover picture, has 7 bits a byte
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = peek(file, start, 64)
    # The Xing header (https://www.codeproject.com/Articles/8295): marker, flags, [frames], [bytes], all big-endian.
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame[:1] != b"\xff" or at < 0 or len(frame) < at + 16:
        return None
    flags, first, second = struct.unpack(">III", frame[at + 4 : at + 16])
    return (start, start + (second if flags & 1 else first)) if flags & 2 else None


def _ogg_breaks_off(file: BinaryIO, size: int) -> bool:
    """Say whether the last page of an Ogg file lacks its end; Ogg states no duration. RFC 3533, section 6."""
    if peek(file, 0, 4) != b"OggS":
        return False
    tail = peek(file, max(0, size - OGG_PAGE), OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def peek(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


@dataclass
class _Count:
    """Packets that were read, and how many of them could not be decoded."""

    packets: int = 0
    bad: int = 0


def _frames(container: Any, stream: Any, count: _Count) -> Iterator[Any]:
    """Yield what can be decoded, and count."""
    tiny = 0
    demux = container.demux(stream)
    while True:
        try:
            packet = next(demux, None)
        except (av.FFmpegError, IndexError):  # the latter where a damaged MPEG-TS names a track that it did not have
            count.bad += 2 + count.packets // 1000  # nothing beyond can be reached: always enough to be reported
            return
        if packet is None:
            return
        count.packets += packet.size > 0
        try:
            frames = packet.decode()
        except av.FFmpegError:
            count.bad += 1
            continue
        for frame in frames:
            tiny += frame.samples < TINY
            yield frame
        if tiny > MOST_TINY:
            count.bad += tiny
            return


def resampled(frames: Iterable[Any], channel: int | None = None) -> Iterator[np.ndarray]:
    """Yield PyAV's sound frames as float32 at 16 kHz: the mean of their channels, or one of them.

    What FFmpeg says of frames that it cannot resample (FFmpegError, ValueError) passes through.
    """
    form: tuple[str, str, int] | None = None
    resampler: Any = None

    def pieces(frame: Any) -> Iterator[np.ndarray]:
        # Resampling comes before mixing: FFmpeg's own downmix weighs the channels by their place in the room.
        for piece in resampler.resample(frame):
            samples = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
            yield mix(samples) if channel is None else samples[:, min(channel, samples.shape[1] - 1)].copy()

    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if now != form:  # joined recordings may change their form midway
            if resampler is not None:
                yield from pieces(None)
            # Packed floats: PyAV 18.1 crashes the process on to_ndarray() of 8 planes.
            form, resampler = now, av.AudioResampler(format="flt", rate=SAMPLE_RATE)
        yield from pieces(frame)
    if resampler is not None:
        yield from pieces(None)


def mix(samples: np.ndarray) -> NDArray[np.float32]:
    """(samples, channels) -> (samples,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # `audio.is_sound` finds what is not finite
        mean: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    return mean
