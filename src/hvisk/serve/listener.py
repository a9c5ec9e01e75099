"""The process behind one WebSocket: sound on stdin, captions on stdout, a JSON object a line. The end of stdin ends it.

python -m hvisk.serve.listener '{"model": ..., "language": ..., "beam_size": ..., "guards": ..., "form": ..., "rate": ...}'

form pcm16, float32     samples, little-endian, mono, at `rate` Hz
form container          WebM or Ogg, as a browser's MediaRecorder writes them while it records
"""

import io
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from hvisk import models
from hvisk.audio import SAMPLE_RATE
from hvisk.errors import AudioError, HviskError
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.guards import Guards
from hvisk.recogniser.live import Caption, Live

WAITING_BLOCKS = 256  # then the sender waits
READ_BYTES = 16 << 10
CONTAINERS = "matroska,webm,ogg"
FORMS: dict[str, np.dtype[Any]] = {"pcm16": np.dtype("<i2"), "float32": np.dtype("<f4")}
PROBE = {"format_whitelist": CONTAINERS, "probesize": "2048", "analyzeduration": "1"}

Block = NDArray[np.float32]


def main() -> None:
    """Listen until stdin ends."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    wanted: dict[str, Any] = json.loads(sys.argv[1])
    os.environ["HF_HUB_OFFLINE"] = "1"
    waiting: queue.Queue[Block | None] = queue.Queue(WAITING_BLOCKS)
    problems: list[str] = []
    threading.Thread(target=_read, args=(wanted["form"], wanted["rate"], waiting, problems), daemon=True).start()
    try:
        recogniser = Recogniser.load(models.recognisable(wanted["model"]), threads=1)
        guards = Guards() if wanted["guards"] else None
        live = Live(recogniser, language=wanted["language"], beam_size=wanted["beam_size"], guards=guards)
    except HviskError as error:
        _say(type="error", message=str(error))
        sys.exit(1)
    _say(type="ready")
    ended = False
    while not ended:
        blocks = [waiting.get()]
        while not waiting.empty():  # who is behind takes all that waits at once
            blocks.append(waiting.get())
        ended = blocks[-1] is None
        sound = np.concatenate([np.zeros(0, np.float32), *(block for block in blocks if block is not None)])
        for caption in live.feed(sound) if len(sound) else ():
            _say(**_caption(caption))
    for caption in live.end():
        _say(**_caption(caption))
    if problems:
        _say(type="error", message=problems[0])
    _say(type="end", seconds=round(live.heard, 3))


def sounds(source: io.RawIOBase, form: str, rate: int) -> Iterator[Block]:
    """Yield mono float32 at 16 kHz of a stream that is still being written. Raises AudioError for what is no sound."""
    if form in FORMS:
        yield from _samples(source, FORMS[form], rate)
        return
    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
    try:
        with av.open(source, mode="r", options=PROBE, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise AudioError("The stream has no sound track. Accepted are WebM and Ogg, or samples.")
            for frame in container.decode(container.streams.audio[0]):
                for piece in resampler.resample(frame):
                    yield _mono(piece)
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(f"The stream is no WebM or Ogg that can be decoded ({type(error).__name__}).") from error


def _samples(source: io.RawIOBase, kind: np.dtype[Any], rate: int) -> Iterator[Block]:
    resampler, rest = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE), b""
    while data := source.read(READ_BYTES):
        data = rest + data
        whole = len(data) - len(data) % kind.itemsize
        rest = data[whole:]
        block = np.frombuffer(data[:whole], kind).astype(np.float32)
        block = np.nan_to_num(block / 32768 if kind.kind == "i" else block, posinf=0.0, neginf=0.0)
        if rate == SAMPLE_RATE:
            yield block
        elif len(block):
            frame = av.AudioFrame.from_ndarray(block[None], format="flt", layout="mono")
            frame.sample_rate = rate
            for piece in resampler.resample(frame):
                yield _mono(piece)


def _mono(frame: Any) -> Block:
    samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    mean: Block = samples.mean(axis=1, dtype=np.float32)
    return mean


def _read(form: str, rate: int, waiting: "queue.Queue[Block | None]", problems: list[str]) -> None:
    try:
        for block in sounds(io.FileIO(0, closefd=False), form, rate):
            waiting.put(block)
    except AudioError as error:
        problems.append(str(error))
    waiting.put(None)


def _caption(caption: Caption) -> dict[str, Any]:
    final = caption.final
    return {
        "type": "caption",
        "utterance": caption.utterance,
        "start": round(caption.start, 3),
        "end": round(caption.end, 3),
        "committed": caption.committed,
        "tentative": caption.tentative,
        "final": final is not None,
        "score": round(final.score, 4) if final else None,
        "doubt": final.doubt if final else "",
    }


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
