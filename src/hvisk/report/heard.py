"""The page on which a person hears, sees and reads what a model is fed; one file that needs nothing else, as `page`."""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hvisk.report import templates

# Dark violet to pale yellow, through red: even steps in lightness, so that it reads in grey and by the colour-blind too.
SHADES = ((8, 6, 29), (58, 15, 98), (124, 33, 107), (186, 56, 83), (233, 104, 47), (249, 176, 57), (251, 249, 190))

Role = Literal["prompt", "text", "time", "end"]


@dataclass(frozen=True)
class Token:
    """A token of a clip's labels. learnt: whether it is in the loss; seconds: of a time within its row, else None."""

    id: int
    text: str
    role: Role
    learnt: bool
    seconds: float | None = None


@dataclass(frozen=True)
class Heard:
    """One row of a batch, as it is fed to the model.

    name: of its sound file. seconds: of the whole row; start, end: of the sound within it. changes: what was done to the
    sound, and how much of it. sound: FLAC bytes. fed: its log-mel (bins, frames); masked: the same after warping and
    masks, None where there are none.
    """

    name: str
    batch: int
    view: str
    text: str
    seconds: float
    start: float
    end: float
    changes: Mapping[str, str]
    tokens: Sequence[Token]
    sound: bytes
    fed: NDArray[np.float32]
    masked: NDArray[np.float32] | None


def render(title: str, subtitle: str, clips: Sequence[Heard], notes: Sequence[str]) -> str:
    """Return the page as HTML, ready to be encoded as UTF-8."""
    return templates.page(
        "heard.html.jinja",
        styles=("page.css", "heard.css"),
        scripts=("heard.js",),
        title=title,
        subtitle=subtitle,
        notes=notes,
        counts=_counts(clips),
        clips=[_clip(clip) for clip in clips],
    )


def picture(mel: NDArray[np.float32], low: float, high: float) -> bytes:
    """Return a log-mel (bins, frames) as PNG, low notes at the bottom, one pixel a value, from `low` to `high`."""
    shares = (mel[::-1] - low) / max(high - low, 1e-6)
    rows = np.rint(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    bins, frames = rows.shape
    stops = np.linspace(0, 255, len(SHADES))
    palette = np.stack([np.interp(np.arange(256), stops, channel) for channel in zip(*SHADES, strict=True)], axis=1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    # PNG (W3C 2003): 8 bits a pixel, each the number of a colour; a 0 before each row says that it is not filtered.
    pixels = np.concatenate([np.zeros((bins, 1), np.uint8), rows], axis=1).tobytes()
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", frames, bins, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", np.rint(palette).astype(np.uint8).tobytes()),
            chunk(b"IDAT", zlib.compress(pixels, 9)),
            chunk(b"IEND", b""),
        ]
    )


def _counts(clips: Sequence[Heard]) -> list[tuple[str, str, int]]:
    """How many clips are of each view, and have each change: (kind, name, clips), the most frequent first."""
    found: dict[tuple[str, str], int] = {}
    for clip in clips:
        for key in [("view", clip.view), *(("change", name) for name in clip.changes)]:
            found[key] = found.get(key, 0) + 1
    order = sorted(found.items(), key=lambda item: (item[0][0] != "view", -item[1], item[0][1]))
    return [(*key, count) for key, count in order]


def _clip(clip: Heard) -> dict[str, Any]:
    low, high = float(clip.fed.min()), float(clip.fed.max())
    pictures = [("fed", picture(clip.fed, low, high))]
    if clip.masked is not None:
        pictures.append(("masked", picture(clip.masked, low, high)))
    return {
        "clip": clip,
        "sound": _data("audio/flac", clip.sound),
        "pictures": [(name, _data("image/png", data)) for name, data in pictures],
        "left": 100 * clip.start / clip.seconds,
        "width": 100 * (clip.end - clip.start) / clip.seconds,
        "marks": sorted({100 * t.seconds / clip.seconds for t in clip.tokens if t.seconds is not None}),
        "learnt": sum(token.learnt for token in clip.tokens),
        "haystack": "\n".join([clip.name, clip.view, clip.text, *(f"{k} {v}" for k, v in clip.changes.items())]),
    }


def _data(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
