"""How much of a corpus is taken, and how much disk it may fill.

--limit 500, --limit 2h -> Limit -> share (one a part) -> take
--disk 20               -> guard, which is asked after each shard
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hvisk import audio
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import CorpusError

# Measured with soundfile on Danish read aloud, 16 kHz.
BYTES_A_SECOND: dict[audio.Codec, int] = {"flac": 22_000, "opus": 3_700}
RESERVE = 10**9  # bytes that stay free on the disk whatever was asked for: a full disk breaks more than a corpus
GIGABYTE = 10**9

_LIMIT = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>h|m|)")


@dataclass(frozen=True)
class Limit:
    """At most so many clips, or about so many seconds of sound; 0 is no limit."""

    clips: int = 0
    seconds: float = 0.0

    @staticmethod
    def parse(text: str) -> "Limit":
        """Read "500" (clips), "2h" or "30m" (of sound), or "" for everything; CorpusError for anything else."""
        if not text:
            return Limit()
        found = _LIMIT.fullmatch(text.strip().lower())
        if found and float(found["number"]) > 0:
            if found["unit"]:
                return Limit(seconds=float(found["number"]) * {"h": 3600, "m": 60}[found["unit"]])
            if "." not in found["number"]:
                return Limit(clips=int(found["number"]))
        raise CorpusError(
            f"--limit {text} is no amount. Accepted: a number of clips (500), hours (2h) or minutes (30m)."
        )

    def __bool__(self) -> bool:
        return bool(self.clips or self.seconds)

    def share(self, parts: int) -> list["Limit"]:
        """Return the limit of each of so many parts, in sum this one; parts may be fewer, never 0 clips each."""
        if self.clips:
            parts = min(parts, self.clips)
            return [Limit(clips=self.clips // parts + (i < self.clips % parts)) for i in range(parts)]
        return [Limit(seconds=self.seconds / parts)] * parts

    def take(self, clips: Iterable[Utterance | Rejected]) -> Iterator[Utterance | Rejected]:
        """Yield clips until the limit is reached; what was rejected does not count."""
        count, seconds = 0, 0.0
        for clip in clips:
            yield clip
            if isinstance(clip, Utterance):
                count, seconds = count + 1, seconds + audio.seconds(clip.audio)
                if (self.clips and count >= self.clips) or (self.seconds and seconds >= self.seconds):
                    return


def guard(out: Path, *, gigabytes: float, hours: float, codec: audio.Codec, workers: int = 1) -> Callable[[], None]:
    """Refuse what cannot fit under `out` before it begins, and return a check to be called after each shard.

    gigabytes: what the folder may hold, 0 for what the disk has room for. hours: of sound that are expected, 0 where
    nobody knows. workers: shards that are written at once. Both raise CorpusError; what is written stays, and the same
    command goes on from there.
    """
    allowed = gigabytes * GIGABYTE or float("inf")
    expected = hours * 3600 * BYTES_A_SECOND[codec]
    room = min(allowed, _free(out) - RESERVE + sum(_shards(out)))
    if expected and expected > room:
        raise CorpusError(
            f"{hours:,.0f} h of speech will fill about {expected / GIGABYTE:,.0f} GB as {codec}, and {out} may hold "
            f"{max(room, 0) / GIGABYTE:,.1f} GB. Take less (--split test, --limit 20h), store it smaller (--codec opus), or "
            f"choose another {'--disk' if room == allowed else '--out'}."
        )

    def check() -> None:
        shards = _shards(out)
        # Shards that are begun are finished, whatever this says: one for each worker.
        if sum(shards) + workers * max(shards, default=0) > allowed:
            raise CorpusError(
                f"{out} holds {sum(shards) / GIGABYTE:,.2f} GB, and another shard would exceed --disk {gigabytes:g}. What is "
                "written stays: the same command with a larger --disk goes on from there."
            )
        if _free(out) < RESERVE:
            raise CorpusError(
                f"The disk of {out} has less than {RESERVE / GIGABYTE:g} GB left. What is written stays: make room, and the "
                "same command goes on from there."
            )

    return check


def _shards(out: Path) -> list[int]:
    return [path.stat().st_size for path in out.glob("*/[0-9]*.arrow")]


def _free(out: Path) -> int:
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free
