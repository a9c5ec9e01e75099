"""How quickly a system recognises: measured while it does, or remembered with the texts that it was not asked for again."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hvisk.systems.cache import Answer


@dataclass
class Speed:
    """What is measured, summed over the processes that an evaluation took; the first clip of each is left out.

    A text out of the cache brings along the seconds that it once took, on that day and machine; they are summed apart.
    """

    audio_seconds: float = 0.0  # of clips that were recognised
    compute_seconds: float = 0.0  # inside the system
    wall_seconds: float = 0.0  # of batches in which the system was asked anything
    first_clip_seconds: float | None = None  # from asking for one clip alone to its text, the system loaded but cold
    peak_memory: int | None = None  # bytes, of the whole process
    measured: list[str] = field(default_factory=list)  # days and machines
    cached_audio_seconds: float = 0.0
    cached_compute_seconds: float = 0.0
    cached_measured: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)  # parameters, bytes, software

    def heard(self, audio_seconds: float, compute_seconds: float, wall_seconds: float, measured: str) -> None:
        """Add a batch in which a warm system was asked."""
        self.audio_seconds += audio_seconds
        self.compute_seconds += compute_seconds
        self.wall_seconds += wall_seconds
        self.measured = sorted({*self.measured, measured})

    def recalled(self, answers: Iterable[tuple[float, Answer]]) -> None:
        """Add clips whose texts came out of the cache: seconds of audio, and what was kept."""
        for seconds, answer in answers:
            if answer.warm:
                self.cached_audio_seconds += seconds
                self.cached_compute_seconds += answer.seconds
                self.cached_measured = sorted({*self.cached_measured, answer.measured})

    def to_dict(self) -> dict[str, Any]:
        """What scores.json says: rtfx is seconds of audio a second, of whichever was measured over more audio.

        from_cache: whether that is what was remembered; measured: the days and machines of that one.
        """
        cached = self.cached_audio_seconds > self.audio_seconds
        audio = self.cached_audio_seconds if cached else self.audio_seconds
        compute = self.cached_compute_seconds if cached else self.compute_seconds
        busy = self.compute_seconds / self.wall_seconds if self.wall_seconds else None
        return {
            "rtfx": round(audio / compute, 2) if compute else None,
            "busy": None if busy is None else round(busy, 4),
            "audio_seconds": audio,
            "compute_seconds": compute,
            "wall_seconds": self.wall_seconds,
            "from_cache": cached,
            "measured": self.cached_measured if cached else self.measured,
            "first_clip_seconds": self.first_clip_seconds,
            "peak_memory": self.peak_memory,
            **self.about,
        }


def peak_memory() -> int | None:
    """Return the most bytes that this process has held at once; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kibibytes on Linux
