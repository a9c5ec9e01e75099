"""The process behind one WebSocket: sound on stdin, captions on stdout, a JSON object a line. The end of stdin ends it.

python -m hvisk.serve.listener '{"model": ..., "language": ..., "beam_size": ..., "guards": ..., "form": ..., "rate": ...}'

form pcm16       16-bit samples, little-endian, mono, at `rate` Hz
form container   WebM or Ogg, as a browser's MediaRecorder writes them while it records
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

import numpy as np
from numpy.typing import NDArray

from hvisk import audio, models
from hvisk.errors import AudioError, HviskError
from hvisk.recogniser import pipe
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.guards import Guards
from hvisk.recogniser.live import Caption, Live

WAITING_BLOCKS = 256  # then the sender waits
CONTAINERS = "matroska,webm,ogg"

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
    blocks = pipe.samples(source, rate) if form == "pcm16" else pipe.decoded(source, "The stream", CONTAINERS)
    for block in blocks:  # what a page's arithmetic spoils for a moment is no reason to end
        yield np.nan_to_num(block, posinf=0.0, neginf=0.0).clip(-audio.LOUDEST, audio.LOUDEST)


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
