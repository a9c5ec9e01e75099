"""Where each utterance begins and ends, in sound that is still coming: `vad`, a block at a time.

    blocks -> frames of 32 ms, raised where all is quiet -> the network, its state kept -> a pause -> an utterance

What `vad.pieces` finds in a whole recording, this finds as it goes, with the same network, bounds and air around speech.
It cannot look ahead: neighbours are never joined, and a long utterance ends at the first pause that is long enough, not
at the likeliest. How sound is divided into blocks does not matter.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, is_sound
from hvisk.recogniser import vad
from hvisk.recogniser.vad import CONTEXT, FRAME, LEAST_STEP, LEVEL, MAX_SECONDS, STATE, TARGET_SECONDS, THRESHOLD

PAD = vad.PAD_FRAMES  # frames of air on both sides, as in `vad.cut`
# Frames. At 0.6 s the air of two utterances no longer meets: `vad.cut`, too, takes them for two. From TARGET_SECONDS on
# less and less is enough, until at half as much again it is the least pause that `vad.cut` knows.
PAUSE = 2 * PAD + 1
LEAST_PAUSE = vad.PAUSE_FRAMES
LONGEST = int(MAX_SECONDS * SAMPLE_RATE) // FRAME
_TARGET = TARGET_SECONDS * SAMPLE_RATE / FRAME

# The loudness of who speaks, by which quiet sound is raised, cannot be that of a whole recording: it is the loudest of
# late. The click of a microphone that is switched on is no speech: a frame counts by the faintest of the last four, 128 ms.
LOUD_FRAMES = 4
HALF_LIFE = 5.0  # seconds in which the memory of a loudness halves


@dataclass(frozen=True, eq=False)
class Utterance:
    """Speech with PAD frames of air around it: `audio`, float32 at 16 kHz, from sample `start` on, counted from the first."""

    start: int
    audio: NDArray[np.float32]

    @property
    def times(self) -> tuple[float, float]:
        """Start and end in seconds from the first sample."""
        return self.start / SAMPLE_RATE, (self.start + len(self.audio)) / SAMPLE_RATE


class Utterances:
    """Finds utterances in blocks; keeps at most MAX_SECONDS of sound."""

    def __init__(self) -> None:
        self.heard = 0  # samples so far, and of what was skipped
        self._held: NDArray[np.float32]
        self._restart()

    def feed(self, block: NDArray[np.float32]) -> list[Utterance]:
        """Take the next block (1-D float32, 16 kHz, any length) and return the utterances that ended in it.

        Raises ValueError for another shape or type, and for samples that `audio.is_sound` refuses.
        """
        if block.ndim != 1 or block.dtype != np.float32 or not is_sound(block):
            raise ValueError(
                f"A block is 1-D, float32, finite and within 2^31, got shape {block.shape} of {block.dtype}"
            )
        self.heard += len(block)
        self._held = np.concatenate([self._held, block])
        ended = [found for probability in self._probabilities() if (found := self._step(probability))]
        self._forget()
        return ended

    def end(self) -> list[Utterance]:
        """Return the utterance that the end of the sound cuts off, if any. What is fed next follows without a gap."""
        heard = self.heard
        rest = -(heard - self._origin) % FRAME
        ended = self.feed(np.zeros(rest, np.float32)) if rest else []
        if self._begun is not None:
            ended.append(self._taken(self._end()))
        self.heard = heard
        self._restart()
        return [Utterance(found.start, found.audio[: heard - found.start]) for found in ended]

    def skip(self, samples: int) -> list[Utterance]:
        """Pass over sound that was lost; it ends an utterance. Returns as `end` does."""
        ended = self.end()
        self.heard += samples
        self._restart()
        return ended

    @property
    def growing(self) -> Utterance | None:
        """The utterance that has not ended, as far as it has been heard; in a pause it stops growing when its air is full."""
        return None if self._begun is None else self._cut(self._begun, self._end())

    def _restart(self) -> None:
        self._origin = self.heard  # the sample that frame 0 begins with
        self._held = np.zeros(0, np.float32)  # from frame `_first` on
        self._first = self._next = self._floor = 0  # frames: held, to be judged next, free of the utterance before
        self._begun: int | None = None
        self._last = 0  # the last frame with speech
        self._context = np.zeros(CONTEXT, np.float32)
        self._h = self._c = np.zeros(STATE, np.float32)
        self._level = LEAST_STEP
        self._loud = deque([0.0] * LOUD_FRAMES, LOUD_FRAMES)

    def _probabilities(self) -> NDArray[np.float32]:
        fresh = self._held[(self._next - self._first) * FRAME :]
        frames = len(fresh) // FRAME
        if not frames:
            return np.zeros(0, np.float32)
        sound = np.concatenate([self._context, fresh[: frames * FRAME]])
        self._context = sound[-CONTEXT:]
        windows = np.lib.stride_tricks.sliding_window_view(sound, CONTEXT + FRAME)[::FRAME]
        gains = np.array([self._gain(float(rms)) for rms in np.sqrt(np.mean(windows[:, CONTEXT:] ** 2, axis=1))])
        raised = np.clip(windows * gains[:, None].astype(np.float32), -1, 1) if gains.max() > 1 else windows
        probabilities, self._h, self._c = vad.judge(raised, self._h, self._c)
        return probabilities

    def _gain(self, loudness: float) -> float:
        self._loud.append(loudness)
        if loudness > LEAST_STEP:
            self._level = max(self._level * 0.5 ** (FRAME / SAMPLE_RATE / HALF_LIFE), min(self._loud), LEAST_STEP)
        return max(1.0, LEVEL / max(self._level, loudness))

    def _step(self, probability: float) -> Utterance | None:
        """Judge the next frame; return the utterance that it ends."""
        frame, self._next = self._next, self._next + 1
        if probability >= THRESHOLD:
            self._last = frame
            if self._begun is None:
                self._begun = max(frame - PAD, self._floor)
        if self._begun is None:
            return None
        length = self._next - self._begun
        enough = round(float(np.interp(length, (_TARGET, 1.5 * _TARGET), (PAUSE, LEAST_PAUSE))))
        return self._taken(self._end()) if frame - self._last >= enough or length >= LONGEST else None

    def _end(self) -> int:
        return min(self._last + 1 + PAD, self._next)

    def _taken(self, end: int) -> Utterance:
        assert self._begun is not None
        found = self._cut(self._begun, end)
        self._begun, self._floor = None, end
        return found

    def _cut(self, start: int, end: int) -> Utterance:
        audio = self._held[(start - self._first) * FRAME : (end - self._first) * FRAME].copy()
        return Utterance(self._origin + start * FRAME, audio)

    def _forget(self) -> None:
        keep = max(self._next - PAD, self._floor, self._first) if self._begun is None else self._begun
        self._held = self._held[(keep - self._first) * FRAME :].copy()
        self._first = keep
