"""Sound as it comes from a microphone, or from a file that plays as if it were one.

Blocks are 1-D float32 at 16 kHz. sounddevice reads the microphone; a device that knows no 16 kHz gives its own rate.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from hvisk import audio, container
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import AudioError, require

BLOCK = SAMPLE_RATE // 20  # samples, 50 ms
MUTE_SECONDS = 3.0  # of nothing but zeros, until it is told
DEVICE_SECONDS = 0.2  # of sound that the device keeps for a moment in which nobody reads

_LIST = "List them with: hvisk listen --list-devices. A file can stand in: hvisk listen --input FILE"


@dataclass(frozen=True)
class Device:
    """A microphone as the system names it; `rate` in Hz is its own. `default`: taken when none is named."""

    number: int
    name: str
    channels: int
    rate: float
    default: bool


def devices() -> list[Device]:
    """Return the microphones. Raises MissingExtra or AudioError where the system cannot be asked."""
    sounddevice = _sounddevice()
    chosen = sounddevice.default.device[0]
    return [
        Device(
            number,
            str(about["name"]),
            int(about["max_input_channels"]),
            float(about["default_samplerate"]),
            number == chosen,
        )
        for number, about in enumerate(sounddevice.query_devices())
        if about["max_input_channels"] > 0
    ]


def microphone(
    device: int | str | None, tell: Callable[[str], None]
) -> tuple[str, Generator[NDArray[np.float32], None, None]]:
    """Open a microphone; return its name and blocks without end, which hold it open.

    device: a number of `devices`, a part of a name, None for the default. tell is given a sentence when sound was lost
    before it could be read, and when a microphone gives only zeros. Raises MissingExtra without sounddevice, AudioError
    without PortAudio and without such a microphone; the blocks raise AudioError when it is unplugged.
    """
    sounddevice = _sounddevice()
    failures = (sounddevice.PortAudioError, ValueError)
    try:
        about = sounddevice.query_devices(device, kind="input")
        rate, channels = _settings(sounddevice, device, about)
        stream = sounddevice.InputStream(
            device=device, samplerate=rate, channels=channels, dtype="int16", latency=DEVICE_SECONDS
        )
        stream.start()
    except failures as error:
        wanted = "No microphone can be used" if device is None else f"The microphone '{device}' cannot be used"
        raise AudioError(f"{wanted}: {str(error).strip() or 'the system has none'}. {_LIST}") from error
    name = str(about["name"])

    def read() -> Generator[NDArray[np.float32], None, None]:
        resampler = Resampler(int(rate))
        lost = zeros = 0
        with contextlib.closing(stream):
            while True:
                try:
                    samples, overflowed = stream.read(int(rate) * BLOCK // SAMPLE_RATE)
                except failures as error:
                    raise AudioError(f"{name} gives no more sound: {error}. {_LIST}") from error
                if overflowed:
                    lost += 1
                    tell(f"{name} lost sound, {lost} times so far: this machine was too busy to read it.")
                zeros = zeros + len(samples) if zeros >= 0 and not samples.any() else -1
                if zeros >= MUTE_SECONDS * rate:
                    zeros = -1
                    tell(f"{name} gives nothing but silence: it is muted, or hvisk may not use it.")
                yield from resampler.feed(container.mix(samples) / np.float32(32768))

    return name, read()


def playing(path: Path, stopped: threading.Event) -> Generator[NDArray[np.float32], None, None]:
    """Give a sound file in blocks, each when it would have been said; until the file ends or `stopped` is set.

    Raises AudioError at once for whatever holds no usable sound, the blocks as `audio.blocks` does.
    """
    audio.about(path)

    def play() -> Generator[NDArray[np.float32], None, None]:
        began, given = time.monotonic(), 0
        for part in audio.blocks(path):
            for at in range(0, len(part), BLOCK):
                block = part[at : at + BLOCK]
                given += len(block)
                if stopped.wait(max(0.0, began + given / SAMPLE_RATE - time.monotonic())):
                    return
                yield block

    return play()


class Resampler:
    """Blocks of any rate -> blocks at 16 kHz."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.resampler: Any = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)

    def feed(self, block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        if self.rate == SAMPLE_RATE:
            yield block
            return
        frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
        frame.sample_rate = self.rate
        for piece in self.resampler.resample(frame):
            yield piece.to_ndarray()[0].copy()


def _settings(sounddevice: Any, device: int | str | None, about: Any) -> tuple[float, int]:
    """Return rate and channels that the device takes: ours where it can, else its own."""
    wanted = [(float(SAMPLE_RATE), 1), (float(about["default_samplerate"]), 1)]
    for rate, channels in wanted:
        with contextlib.suppress(sounddevice.PortAudioError):
            sounddevice.check_input_settings(device=device, samplerate=rate, channels=channels, dtype="int16")
            return rate, channels
    return float(about["default_samplerate"]), int(about["max_input_channels"])


def _sounddevice() -> Any:
    require("sounddevice", "listen", "hear a microphone")
    try:
        import sounddevice
    except OSError as error:
        raise AudioError(
            f"sounddevice finds no PortAudio on this machine ({error}). On Debian and Ubuntu: apt install libportaudio2. "
            "On Fedora: dnf install portaudio. A file can stand in: hvisk listen --input FILE"
        ) from error
    return sounddevice
