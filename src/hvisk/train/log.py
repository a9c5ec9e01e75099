"""log.jsonl: one line a measurement, the first one from before step 1."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import files, metrics
from hvisk.train.checkpoint import State


@dataclass(frozen=True)
class Log:
    """The log at `path`. A line: step, minutes, audio_seconds, loss, skipped, score, watched, measuring."""

    path: Path

    def write(
        self,
        state: State,
        score: metrics.Score,
        loss: float | None,
        watched: Mapping[str, metrics.Score] | None = None,
        measuring: float = 0.0,
    ) -> dict[str, Any]:
        """Append a line and return it. watched: scores on further corpora by name; measuring: seconds that it all took.

        A line of step 0 begins the file anew.
        """
        line = {
            "step": state.step,
            "minutes": round(state.seconds / 60, 4),
            "audio_seconds": round(state.audio_seconds, 1),
            "loss": loss,
            "skipped": state.skipped,
            "score": score.to_dict(),
            "watched": {name: further.to_dict() for name, further in (watched or {}).items()},
            "measuring": round(measuring, 3),
        }
        self._replace([*self.lines(), line] if state.step else [line])
        return line

    def lines(self) -> list[dict[str, Any]]:
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def cut(self, step: int) -> None:
        """Drop what was measured after the checkpoint that is being resumed; it will be measured again."""
        self._replace([line for line in self.lines() if line["step"] <= step])

    def first_score(self) -> metrics.Score:
        return _score(self.lines()[0])

    def last_score(self) -> metrics.Score:
        return _score(self.lines()[-1])

    def score_at(self, step: int) -> metrics.Score:
        return _score(next(line for line in reversed(self.lines()) if line["step"] == step))

    def _replace(self, lines: list[dict[str, Any]]) -> None:
        # The whole file each time: a line that a kill cut in half would make the run unresumable.
        files.write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))


def _score(line: dict[str, Any]) -> metrics.Score:
    fields = dict(line["score"])
    for key in ("wer_interval", "cer_interval"):
        fields[key] = tuple(fields[key]) if fields[key] else None
    return metrics.Score(**fields)
