"""Sound in and out: any audio or video file becomes mono float32 at 16 kHz, and clips become the bytes of a shard.

A file that is cut short is an error, never a shorter recording: half a clip beside its whole transcript poisons a
corpus, and half an interview must not look like all of it. Who wants the part that is there asks with `partial=True`.
Whether a file is whole can be told where the format says how long it is: WAV, FLAC, MP4/M4A, MP3 and WebM with a
length header, and Ogg by its unfinished page. Raw AAC, bare MP3 and live streams declare nothing, so what is there
is all there is.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import av
import numpy as np
import soundfile

from hvisk import container
from hvisk.container import ACCEPTED as ACCEPTED
from hvisk.container import SAMPLE_RATE as SAMPLE_RATE
from hvisk.errors import AudioError

Codec = Literal["flac", "opus"]  # of the clips in a shard
OPUS_BITS_PER_SECOND = 28_000
LOUDEST = 2.0**31  # a spoilt bit makes a float of 1e38, whose square is infinite

_NOT_FINITE = (
    "{label} holds samples that are not numbers (NaN, infinite or beyond 2^31). Export it again as 16-bit wav."
)
PART = "Get a whole copy of the file; in Python, load(..., partial=True) takes the part that is there"


def is_sound(audio: np.ndarray) -> bool:
    """Return whether all samples are numbers that a sound can have: finite, and within 32-bit integers' full scale."""
    # Without a copy of the recording; a NaN is neither.
    return bool(audio.min(initial=0.0) >= -LOUDEST and audio.max(initial=0.0) <= LOUDEST)


def seconds(audio: np.ndarray) -> float:
    """Return the duration of 16 kHz samples, in seconds."""
    return len(audio) / SAMPLE_RATE


def load(source: str | Path | bytes, *, name: str | None = None, partial: bool = False) -> np.ndarray:
    """Read the first sound track of a file, or of a file's bytes, as float32 (samples,) mono at 16 kHz.

    Channels are mixed by their mean. The result is finite and not empty; integer formats span [-1, 1), float formats
    keep their own scale. `name` stands for the source in messages. With `partial`, a file that is cut short or
    damaged gives what can be decoded.
    Raises AudioError, which names the file, for whatever holds no usable sound and, unless `partial`, for a
    file of which more than 0.25 s plus 0.1 % is missing.
    """
    if isinstance(source, bytes):
        label = name or f"a sound of {len(source)} bytes"
        return _load(io.BytesIO(source), len(source), label, partial)
    label = name or shown(Path(source))
    with _opened(Path(source), label) as (file, size):
        return _load(file, size, label, partial)


def blocks(path: Path, *, name: str | None = None, channel: int | None = None) -> Iterator[np.ndarray]:
    """Yield what `load` returns of a file in blocks of at most a few seconds, so that its length costs no memory.

    channel: take this one, from 0, instead of the mean of all. Raises AudioError as `load` does; for a file that is cut
    short that is at its end, when all that could be decoded has been given.
    """
    label = name or shown(path)
    with _opened(path, label) as (file, size):
        found = False
        decoding = container.decoded(file, container.promised_span(file), size, label, channel)
        while True:
            try:
                block = next(decoding)
            except StopIteration as end:
                loss: str = end.value
                break
            if not is_sound(block):
                raise AudioError(_NOT_FINITE.format(label=label))
            if block.size:
                found = True
                yield block
        if not found:
            raise AudioError(f"{label} holds no sound that can be decoded. {ACCEPTED}.")
        if loss:
            raise AudioError(f"{label} is cut short or damaged: {loss}. {PART}.")


def about(path: Path, *, name: str | None = None) -> tuple[int, float | None]:
    """Return how many channels the first sound track has, and its seconds as FFmpeg reads or guesses them, if it can.

    Raises AudioError for whatever holds no usable sound.
    """
    label = name or shown(path)
    with _opened(path, label) as (file, _), container.opened(file, label) as (opened, stream):
        return int(stream.channels), opened.duration / av.time_base if opened.duration else None


def encode(audio: np.ndarray, codec: Codec = "flac") -> bytes:
    """Return float32 (samples,) at 16 kHz as FLAC (16 bit, lossless for 16-bit sources) or Ogg Opus bytes.

    Samples beyond [-1, 1] are clipped. Raises AudioError for audio that is empty, not 1-D or not finite.
    """
    if audio.ndim != 1 or audio.size == 0 or not is_sound(audio):
        raise AudioError(f"Cannot encode audio of shape {audio.shape}: it must be 1-D, finite and not empty.")
    buffer = io.BytesIO()
    if codec == "flac":
        # libsndfile writes floats times 32767 and reads them over 32768; integers come back as they went in.
        soundfile.write(buffer, pcm16(audio), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    else:
        _write_opus(buffer, np.clip(audio, -1.0, 1.0))
    return buffer.getvalue()


def _write_opus(buffer: io.BytesIO, audio: np.ndarray) -> None:
    """Ogg Opus by PyAV's libopus: as near to the original as soundfile's, no larger, and 3.8 times as fast (LOG.md)."""
    # Bit-exact: otherwise each stream has a number by chance, and the same sound never gives the same bytes.
    with av.open(buffer, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate, stream.options = OPUS_BITS_PER_SECOND, {"vbr": "constrained"}  # music would take twice as many
        frame = av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for some in (frame, None):
            for packet in stream.encode(some):
                container.mux(packet)


def pcm16(audio: np.ndarray) -> np.ndarray:
    """Return finite float samples as int16, clipped to [-1, 1): what a clip is before any codec."""
    return np.clip(np.rint(audio * 32768.0), -32768, 32767).astype(np.int16)


def decode(data: bytes | memoryview) -> np.ndarray:
    """Return the float32 (samples,) at 16 kHz of bytes that `encode` wrote; AudioError for any other bytes."""
    try:
        # soundfile.read seeks about in the bytes first, which takes a sixth of the time.
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples, rate = file.read(file.frames, dtype="float32"), file.samplerate
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(f"A clip of {len(data)} bytes is damaged: it is neither FLAC nor Ogg Opus.") from error
    if samples.ndim != 1 or rate != SAMPLE_RATE or samples.size == 0:
        raise AudioError(f"A clip of {len(data)} bytes has shape {samples.shape} at {rate} Hz: it must be 16 kHz mono.")
    return np.asarray(samples)


def shown(path: Path) -> str:
    # A name in an old encoding reads as lone surrogates, and a message that holds one cannot be printed.
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def _opened(path: Path, label: str) -> Iterator[tuple[BinaryIO, int]]:
    if path.is_dir():
        raise AudioError(f"{label} is a folder: give one sound file. {ACCEPTED}.")
    if not path.exists():
        raise AudioError(f"{label} does not exist: give the path of a sound file. {ACCEPTED}.")
    if not path.is_file():  # a pipe or a device would wait for ever
        raise AudioError(f"{label} is not an ordinary file: give the path of a sound file. {ACCEPTED}.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size == 0:
                raise AudioError(f"{label} is empty (0 bytes). {ACCEPTED}.")
            yield file, size
    except OSError as error:
        raise AudioError(f"{label} cannot be read: {error.strerror or error}. {ACCEPTED}.") from error


def _load(file: BinaryIO, size: int, label: str, partial: bool) -> np.ndarray:
    if size == 0:
        raise AudioError(f"{label} is empty (0 bytes). {ACCEPTED}.")
    promised = container.promised_span(file)
    audio = _read_plain(file, promised, size)
    if audio is None:
        audio, loss = _read_any(file, promised, size, label)
        if loss and not partial:
            raise AudioError(f"{label} is cut short or damaged: {loss}. {PART}.")
    if audio.size == 0:
        raise AudioError(f"{label} holds no sound: its sound track has 0 samples. {ACCEPTED}.")
    if not is_sound(audio):
        raise AudioError(_NOT_FINITE.format(label=label))
    return audio


def _read_plain(file: BinaryIO, promised: tuple[int, int] | None, size: int) -> np.ndarray | None:
    """Read 16 kHz WAV and FLAC, the formats of corpora, with libsndfile; None sends the file to FFmpeg.

    libsndfile is some twenty times faster on short clips, but silent about what is missing, so it only gets a WAV whose
    header agrees with its size (writers differ on whether the padding byte counts).
    """
    magic = container.peek(file, 0, 4)
    if magic != b"fLaC" and not (magic == b"RIFF" and promised and abs(promised[1] - size) <= 1):
        return None
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            # Silence packs into about 14 bytes a FLAC block of 4096; a header that claims more would fill the memory.
            if sound.samplerate != SAMPLE_RATE or sound.frames > 512 * size:
                return None
            samples = sound.read(dtype="float32", always_2d=True)
            return None if len(samples) < sound.frames else container.mix(samples)
    except (soundfile.SoundFileError, RuntimeError):
        return None  # FFmpeg reads more, and its verdict is the one that is told


def _read_any(file: BinaryIO, promised: tuple[int, int] | None, size: int, label: str) -> tuple[np.ndarray, str]:
    """Return the samples FFmpeg finds and a phrase that says what is missing, empty where nothing is."""
    parts: list[np.ndarray] = []
    decoding = container.decoded(file, promised, size, label, None)
    while True:
        try:
            parts.append(next(decoding))
        except StopIteration as end:
            loss: str = end.value
            break
    audio = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not audio.size:
        raise AudioError(f"{label} holds no sound that can be decoded. {ACCEPTED}.")
    return audio, loss
