"""Sound through a pipe, as it comes: raw samples, WAV, or what FFmpeg decodes."""

import contextlib
import io
import itertools
import wave
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from hvisk import audio
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import AudioError
from hvisk.recogniser.microphone import BLOCK, Resampler

# What a stream of each container begins with; anything else is raw samples.
CONTAINERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"FORM", b".snd")
RAW = "raw 16-bit little-endian samples, mono, 16 kHz"


class Reading(Protocol):
    """A stream of bytes: an unbuffered file, whose read gives what is there."""

    def read(self, size: int = -1, /) -> bytes | None: ...


def piped(stream: Reading, name: str, tell: Callable[[str], None]) -> Generator[NDArray[np.float32], None, None]:
    """Yield what comes through a pipe, as it comes: a WAV, FLAC, Ogg, WebM or MP3 stream, or else RAW.

    FFmpeg wants to see 20 kB of FLAC and Ogg before it begins, 2 s of speech; raw samples and 16-bit WAV begin at once.
    Raises AudioError, with `name`, for a stream that cannot be decoded and for one without sound.
    """
    head = _exactly(stream, 4)
    if head.startswith(b"RIFF"):
        head += _wav_header(stream)
    joined = _Joined(head, stream)
    if (form := _wav_form(head)) is not None:
        joined.head = b""
        blocks = _samples(joined, *form)
    elif head.startswith(CONTAINERS):
        blocks = _decoded(joined, name)
    else:
        tell(f"{name} is taken for {RAW}.")
        blocks = _samples(joined, SAMPLE_RATE, 1)
    found = False
    for block in blocks:
        if not np.isfinite(block).all():
            raise AudioError(f"{name} holds samples that are not numbers (NaN or infinite). Send 16-bit samples.")
        found = found or bool(len(block))
        yield block
    if not found:
        raise AudioError(f"{name} holds no sound. Accepted: a WAV, FLAC, Ogg, WebM or MP3 stream, or {RAW}.")


class _Joined:
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, stream: Reading) -> None:
        self.head, self.stream = head, stream

    def read(self, size: int = -1, /) -> bytes:
        if self.head:
            given, self.head = self.head[:size], self.head[size:]
            return given
        return self.stream.read(size) or b""


def _exactly(stream: Reading, size: int) -> bytes:
    """Read so many bytes, or all that there are."""
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    return data


def _wav_header(stream: Reading) -> bytes:
    """Read what follows "RIFF" in a WAV, up to its samples."""
    header = _exactly(stream, 8)
    while len(chunk := _exactly(stream, 8)) == 8 and chunk[:4] != b"data":
        size = int.from_bytes(chunk[4:], "little")
        header += chunk + _exactly(stream, size + size % 2)
    return header + chunk


def _wav_form(header: bytes) -> tuple[int, int] | None:
    """Return the rate and channels of a WAV of 16-bit samples, None for any other."""
    with contextlib.suppress(wave.Error, EOFError), wave.open(io.BytesIO(header)) as about:
        if about.getsampwidth() == 2 and audio.MIN_RATE <= about.getframerate() <= audio.MAX_RATE:
            return about.getframerate(), about.getnchannels()
    return None


def _samples(stream: _Joined, rate: int, channels: int) -> Iterator[NDArray[np.float32]]:
    resampler = Resampler(rate)
    part = b""  # of the samples of one instant
    while data := stream.read(2 * channels * BLOCK):
        data = part + data
        whole = len(data) - len(data) % (2 * channels)
        part = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").reshape(-1, channels)
        if whole:
            yield from resampler.feed(samples.mean(axis=1, dtype=np.float32) / np.float32(32768))


def _decoded(stream: _Joined, name: str) -> Iterator[NDArray[np.float32]]:
    # Little is probed: what FFmpeg likes to see of a stream before it begins is 5 s.
    options = {"format_whitelist": audio.CONTAINERS, "probesize": "2048", "analyzeduration": "1"}
    try:
        with av.open(stream, mode="r", options=options, buffer_size=2048, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError(f"{name} has no sound track.")
            resampler: Any = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
            frames: Iterator[Any] = container.decode(container.streams.audio[0])
            for frame in itertools.chain(frames, [None]):  # None: what the resampler still holds
                for piece in resampler.resample(frame):
                    samples: NDArray[np.float32] = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
                    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
                    yield mono
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{name} breaks off or cannot be decoded: {error}. {audio.ACCEPTED}.") from error
