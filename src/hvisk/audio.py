"""Sound in and out: any audio or video file becomes mono float32 at 16 kHz, and clips become the bytes of a shard.

A file that is cut short is an error, never a shorter recording: half a clip beside its whole transcript poisons a
corpus, and half an interview must not look like all of it. Who wants the part that is there asks with `partial=True`.
Whether a file is whole can be told where the format says how long it is: WAV, FLAC, MP4/M4A, MP3 and WebM with a
length header, and Ogg by its unfinished page. Raw AAC, bare MP3 and live streams declare nothing, so what is there
is all there is.
"""

import contextlib
import io
import struct
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
import soundfile

from hvisk.errors import AudioError

Codec = Literal["flac", "opus"]  # of the clips in a shard
OPUS_BITS_PER_SECOND = 28_000

SAMPLE_RATE = 16_000  # Hz; what every Whisper encoder is trained on
MIN_RATE, MAX_RATE = 8_000, 192_000  # Hz; telephone to studio. A header that claims 1 Hz would fill the memory

ACCEPTED = (
    "Accepted: wav, flac, mp3, ogg, opus, m4a, aac, webm and the sound of mp4, mov, mkv or avi, at 8 to 192 kHz, "
    "from mono to 64 channels"
)
_NOT_FINITE = (
    "{label} holds samples that are not numbers (NaN, infinite or beyond 2^31). Export it again as 16-bit wav."
)
PART = "Get a whole copy of the file; in Python, load(..., partial=True) takes the part that is there"

# Only containers that hold sound themselves. FFmpeg would also follow playlists (HLS, concat, SDP) out to the network,
# whatever the file is called, and nothing may leave the machine.
CONTAINERS = "aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,webm"

LOUDEST = 2.0**31  # a spoilt bit makes a float of 1e38, whose square is infinite
SLACK_SECONDS = 0.25  # priming and padding: AAC and Opus headers count up to 2 packets (< 0.1 s) that are never heard
SLACK_SHARE = 0.001  # recorders round their headers; 3.6 s an hour
# A damaged CAF may give its samples one at a time, ten thousand times as slowly as real packets of hundreds.
TINY, MOST_TINY = 8, 1000
OGG_PAGE = 27 + 255 + 255 * 255  # bytes, at most: header, segment table, segments


def is_sound(audio: np.ndarray) -> bool:
    """Return whether all samples are numbers that a sound can have: finite, and within 32-bit integers' full scale."""
    return bool(np.abs(audio).max(initial=0.0) <= LOUDEST)  # neither is NaN


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
    label = name or _label(Path(source))
    with _opened(Path(source), label) as (file, size):
        return _load(file, size, label, partial)


def blocks(path: Path, *, name: str | None = None, channel: int | None = None) -> Iterator[np.ndarray]:
    """Yield what `load` returns of a file in blocks of at most a few seconds, so that its length costs no memory.

    channel: take this one, from 0, instead of the mean of all. Raises AudioError as `load` does; for a file that is cut
    short that is at its end, when all that could be decoded has been given.
    """
    label = name or _label(path)
    with _opened(path, label) as (file, size):
        found = False
        decoding = _decoded(file, _promised_span(file), size, label, channel)
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
    label = name or _label(path)
    with _opened(path, label) as (file, _), _container(file, label) as (container, stream):
        return int(stream.channels), container.duration / av.time_base if container.duration else None


def encode(audio: np.ndarray, codec: Codec = "flac") -> bytes:
    """Return float32 (samples,) at 16 kHz as FLAC (16 bit, lossless for 16-bit sources) or Ogg Opus bytes.

    Samples beyond [-1, 1] are clipped. Raises AudioError for audio that is empty, not 1-D or not finite.
    """
    if audio.ndim != 1 or audio.size == 0 or not np.isfinite(audio).all():
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
    with av.open(buffer, "w", format="ogg") as container:
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


def _label(path: Path) -> str:
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
    promised = _promised_span(file)
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
    magic = _peek(file, 0, 4)
    if magic != b"fLaC" and not (magic == b"RIFF" and promised and abs(promised[1] - size) <= 1):
        return None
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            # Silence packs into about 14 bytes a FLAC block of 4096; a header that claims more would fill the memory.
            if sound.samplerate != SAMPLE_RATE or sound.frames > 512 * size:
                return None
            samples = sound.read(dtype="float32", always_2d=True)
            return None if len(samples) < sound.frames else _mix(samples)
    except (soundfile.SoundFileError, RuntimeError):
        return None  # FFmpeg reads more, and its verdict is the one that is told


def _read_any(file: BinaryIO, promised: tuple[int, int] | None, size: int, label: str) -> tuple[np.ndarray, str]:
    """Return the samples FFmpeg finds and a phrase that says what is missing, empty where nothing is."""
    parts: list[np.ndarray] = []
    decoding = _decoded(file, promised, size, label, None)
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
def _container(file: BinaryIO, label: str) -> Iterator[tuple[Any, Any]]:
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


def _decoded(
    file: BinaryIO, promised: tuple[int, int] | None, size: int, label: str, channel: int | None
) -> Generator[np.ndarray, None, str]:
    """Yield the samples FFmpeg finds; return a phrase that says what is missing, empty where nothing is."""
    with _container(file, label) as (container, stream):
        if channel is not None and not 0 <= channel < stream.channels:
            raise AudioError(f"{label} has no channel {channel}, only 0 to {stream.channels - 1}.")
        decoding = _decode(container, stream, channel)
        samples = 0
        while True:
            try:
                block = next(decoding)
            except StopIteration as end:
                packets, bad = end.value
                break
            except (av.FFmpegError, ValueError) as error:
                raise AudioError(f"{label} has {stream.channels} channels that cannot be mixed. {ACCEPTED}.") from error
            samples += len(block)
            yield block
        declared = _declared_seconds(container, stream)
    found = samples / SAMPLE_RATE
    if not samples:
        return ""
    if promised:
        start, end_byte = promised
        declared = found * (end_byte - start) / (size - start)
    if declared and found < declared * (1 - SLACK_SHARE) - SLACK_SECONDS:
        return f"it declares {declared:.1f} s of sound and {found:.1f} s are there"
    if bad > 1 + packets // 1000:  # one: a tag or a half frame at the end of an MP3 or AAC is everyday and harmless
        return f"{bad} of its {packets} packets cannot be decoded, and {found:.1f} s can"
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


def _promised_span(file: BinaryIO) -> tuple[int, int] | None:
    """Return where the header of a WAV or MP3 says that its sound starts and ends, in bytes; None where it is silent.

    FFmpeg trims a WAV to what is there, and does not tell whether an MP3's duration is a header's or a guess.
    """
    head = _peek(file, 0, 10)
    if head[:4] == b"RIFF" and len(head) == 10:
        end = struct.unpack("<I", head[4:8])[0] + 8
        return (0, end) if end < 0x7FFF0000 else None  # recorders that write to a pipe put their largest number here
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:  # its length, often that of a cover picture, has 7 bits a byte
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    frame = _peek(file, start, 64)
    # The Xing header (https://www.codeproject.com/Articles/8295): marker, flags, [frames], [bytes], all big-endian.
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if frame[:1] != b"\xff" or at < 0 or len(frame) < at + 16:
        return None
    flags, first, second = struct.unpack(">III", frame[at + 4 : at + 16])
    return (start, start + (second if flags & 1 else first)) if flags & 2 else None


def _ogg_breaks_off(file: BinaryIO, size: int) -> bool:
    """Say whether the last page of an Ogg file lacks its end; Ogg states no duration. RFC 3533, section 6."""
    if _peek(file, 0, 4) != b"OggS":
        return False
    tail = _peek(file, max(0, size - OGG_PAGE), OGG_PAGE)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    return len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _peek(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _decode(container: Any, stream: Any, channel: int | None) -> Generator[np.ndarray, None, tuple[int, int]]:
    """Yield samples; return the number of packets, and how many of them could not be decoded."""
    packets = bad = tiny = 0
    form: tuple[str, str, int] | None = None
    resampler: Any = None

    def resample(frame: Any) -> Iterator[np.ndarray]:
        # Resampling comes before mixing: FFmpeg's own downmix weighs the channels by their place in the room.
        for piece in resampler.resample(frame):
            samples = piece.to_ndarray().reshape(-1, piece.layout.nb_channels)
            yield _mix(samples) if channel is None else samples[:, min(channel, samples.shape[1] - 1)].copy()

    def take(frame: Any) -> Iterator[np.ndarray]:
        nonlocal form, resampler
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if now != form:  # joined recordings may change their form midway
            if resampler is not None:
                yield from resample(None)
            # Packed floats: PyAV 18.1 crashes the process on to_ndarray() of 8 planes.
            form, resampler = now, av.AudioResampler(format="flt", rate=SAMPLE_RATE)
        yield from resample(frame)

    demux = container.demux(stream)
    while True:
        try:
            packet = next(demux, None)
        except (av.FFmpegError, IndexError):  # the latter where a damaged MPEG-TS names a track that it did not have
            bad += 2 + packets // 1000  # nothing beyond can be reached: always enough to be reported
            break
        if packet is None:
            break
        packets += packet.size > 0
        try:
            frames = packet.decode()
        except av.FFmpegError:
            bad += 1
            continue
        for frame in frames:
            tiny += frame.samples < TINY
            yield from take(frame)
        if tiny > MOST_TINY:
            bad += tiny
            break
    if resampler is not None:
        yield from resample(None)
    return packets, bad


def _mix(samples: np.ndarray) -> np.ndarray:
    """(samples, channels) -> (samples,)."""
    with np.errstate(over="ignore", invalid="ignore"):  # `_load` reports what is not finite
        mean: np.ndarray = samples.mean(axis=1, dtype=np.float32)
    return mean
