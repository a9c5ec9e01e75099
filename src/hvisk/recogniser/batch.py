"""Many recordings, one after another: a broken one costs itself alone, and a finished one is never recognised again."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from hvisk import audio, files
from hvisk.errors import AudioError, HviskError
from hvisk.recogniser import longform, writers
from hvisk.recogniser.engine import Recogniser
from hvisk.terminal import Bar


@dataclass(frozen=True)
class Options:
    """How recordings become text. form: a key of `writers.WRITERS`; as_json: one JSON object a line, whatever the form."""

    form: Literal["txt", "srt", "vtt", "json"] = "txt"
    language: str = "da"
    beam_size: int = 1
    vad: bool = True
    overwrite: bool = False
    as_json: bool = False


def transcribe(
    recordings: Sequence[Path], recogniser: Recogniser, options: Options, out: Path | None, console: Console
) -> list[Path]:
    """Transcribe to stdout, or to a file each in `out`; return the recordings that could not be read, told as they come.

    Raises HviskError where two recordings would be written to one file.
    """
    targets = [None if out is None else _target(out, recording, options.form) for recording in recordings]
    twice = sorted({str(target) for target in targets if target and targets.count(target) > 1})
    if twice:
        raise HviskError(f"Several of the recordings would be written to {twice[0]}. Give them in separate calls.")
    broken: list[Path] = []
    for recording, target in zip(recordings, targets, strict=True):
        if target and target.exists() and not options.overwrite:
            console.print(f"{recording}: {target} is there already (--overwrite makes it again)", markup=False)
            continue
        began = time.perf_counter()
        try:
            sound = audio.load(recording)
        except AudioError as error:
            broken.append(recording)
            console.print(f"error: {error}", style="red", markup=False)
            continue
        with Bar(console, recording.name) as bar:
            transcript = longform.transcribe(
                recogniser,
                sound,
                language=options.language,
                beam_size=options.beam_size,
                vad=options.vad,
                on_progress=bar.audio,
            )
        took = time.perf_counter() - began
        _deliver(recording, transcript, target, options, heading=len(recordings) > 1)
        console.print(
            f"{recording}: {transcript.seconds:.1f} s of audio in {took:.1f} s, "
            f"{transcript.seconds / took:.0f} times real time"
            + ("" if transcript.segments else "; no speech was found"),
            markup=False,
        )
    return broken


def _target(out: Path, recording: Path, form: str) -> Path:
    return out / f"{recording.stem}.{form}"


def _deliver(
    recording: Path, transcript: longform.Transcript, target: Path | None, options: Options, *, heading: bool
) -> None:
    text = writers.WRITERS[options.form](transcript)
    if target:
        files.write_text(target, text)
    if options.as_json:
        value = {"file": str(recording), **json.loads(writers.to_json(transcript))}
        print(json.dumps(value, ensure_ascii=False), flush=True)
    elif target:
        print(target, flush=True)
    else:
        print((f"--- {recording} ---\n" if heading else "") + text, end="", flush=True)
