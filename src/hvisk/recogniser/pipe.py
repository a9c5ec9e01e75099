"""Sound through a pipe, as it comes: raw samples, WAV, or what FFmpeg decodes."""

import contextlib
import io
import wave
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from hvisk import audio, container
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import AudioError
from hvisk.recogniser.microphone import BLOCK, Resampler

# What a stream of each container begins with; anything else is raw samples.
CONTAINERS = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3", b"FORM", b".snd")
PCM16 = np.dtype("<i2")
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
        blocks = samples(joined, *form)
    elif head.startswith(CONTAINERS):
        blocks = decoded(joined, name)
    else:
        tell(f"{name} is taken for {RAW}.")
        blocks = samples(joined, SAMPLE_RATE)
    found = False
    for block in blocks:
        if not audio.is_sound(block):
            raise AudioError(
                f"{name} holds samples that are not numbers (NaN, infinite or beyond 2^31). Send 16-bit samples."
            )
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
    """Read what follows "RIFF" in a WAV, up to its samples; of another RIFF, which may be a whole film, its name alone."""
    header = _exactly(stream, 8)
    if header[4:] != b"WAVE":
        return header
    while len(chunk := _exactly(stream, 8)) == 8 and chunk[:4] != b"data":
        size = int.from_bytes(chunk[4:], "little")
        header += chunk + _exactly(stream, size + size % 2)
    return header + chunk


def _wav_form(header: bytes) -> tuple[int, int] | None:
    """Return the rate and channels of a WAV of 16-bit samples, None for any other."""
    with contextlib.suppress(wave.Error, EOFError), wave.open(io.BytesIO(header)) as about:
        if about.getsampwidth() == 2 and container.MIN_RATE <= about.getframerate() <= container.MAX_RATE:
            return about.getframerate(), about.getnchannels()
    return None


def samples(
    stream: Reading, rate: int, channels: int = 1, kind: np.dtype[Any] = PCM16
) -> Iterator[NDArray[np.float32]]:
    """Yield a stream of bare samples, little-endian, channels side by side, as mono float32 at 16 kHz.

    rate: in Hz. kind: PCM16, or a float type whose full scale is 1; what is no number passes through.
    """
    resampler = Resampler(rate)
    scale = np.float32(1 if kind.kind == "f" else 32768)
    instant = channels * kind.itemsize
    part = b""  # of the samples of one instant
    while data := stream.read(instant * BLOCK):
        data = part + data
        whole = len(data) - len(data) % instant
        part = data[whole:]
        if whole:
            yield from resampler.feed(container.mix(np.frombuffer(data[:whole], kind).reshape(-1, channels)) / scale)


def decoded(stream: Reading, name: str, containers: str = container.CONTAINERS) -> Iterator[NDArray[np.float32]]:
    """Yield a container that is still being written as mono float32 at 16 kHz. containers: FFmpeg's names of those accepted.

    Raises AudioError, with `name`, for what is none of them or breaks off.
    """
    # Little is probed: what FFmpeg likes to see of a stream before it begins is 5 s.
    options = {"format_whitelist": containers, "probesize": "2048", "analyzeduration": "1"}
    try:
        with av.open(stream, mode="r", options=options, buffer_size=2048, metadata_errors="replace") as opened:
            if not opened.streams.audio:
                raise AudioError(f"{name} has no sound track. {audio.ACCEPTED}.")
            yield from container.resampled(opened.decode(opened.streams.audio[0]))
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"{name} breaks off or cannot be decoded: {error}. {audio.ACCEPTED}.") from error
