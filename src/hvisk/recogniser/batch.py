"""Many recordings, one after another: a broken one costs itself alone, and a finished one is never recognised again."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from rich.console import Console

from hvisk import audio, files
from hvisk.errors import AudioError, HviskError
from hvisk.recogniser import defaults, inputs, longform, writers
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.fetch import address
from hvisk.recogniser.guards import ALL_GUARDS, Guards
from hvisk.recogniser.transcriber import Transcriber
from hvisk.terminal import Bar


@dataclass(frozen=True)
class Options:
    """How recordings become text. form: one of `writers.FORMS`; as_json: one JSON object a line, whatever the form.

    channels: their mean is one recording, or each is one by itself. guards: None keeps every text as it is.
    """

    form: Literal["txt", "srt", "vtt", "tsv", "json", "docx"] = "txt"
    language: str = defaults.LANGUAGE
    beam_size: int = defaults.BEAM_SIZE
    vad: bool = defaults.VAD
    words: bool = False
    guards: Guards | None = ALL_GUARDS
    channels: Literal["mix", "separate"] = "mix"
    overwrite: bool = False
    as_json: bool = False


def transcribe(
    recordings: Sequence[Path], recogniser: Recogniser, options: Options, out: Path | None, console: Console
) -> list[Path]:
    """Transcribe to stdout, or to a file each in `out`; return the recordings that could not be read, told as they come.

    recordings: files, or `inputs.STDIN`. They are read in blocks, so that their length costs no memory; a channel by
    itself is named name.1, name.2 and so on. Raises HviskError where two recordings would be written to one file, where a
    file cannot be written, and for a Word document without `out`.
    """
    check(recordings, options, out)
    broken: list[Path] = []
    for recording in recordings:
        try:
            if out and not options.overwrite and options.channels == "mix":
                target = destination(out, recording, options.form, None)
                if target.exists():
                    kept(recording, target, console)
                    continue
            with inputs.opened(recording, console) as path:
                name = _name(recording, None)
                for channel, seconds in _channels(path, name, options):
                    _one(recording, path, channel, seconds, recogniser, options, out, console, len(recordings) > 1)
        except AudioError as error:
            broken.append(recording)
            console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
    return broken


def check(recordings: Sequence[Path], options: Options, out: Path | None) -> None:
    """Raise HviskError where two recordings would be written to one file, and for a Word document without `out`."""
    if options.form == "docx" and out is None:
        raise HviskError("A Word document is no text that could be printed. Add --out DIR, where it is written.")
    targets = [destination(out, recording, options.form, None) for recording in recordings] if out else []
    twice = sorted({str(target) for target in targets if targets.count(target) > 1})
    if twice:
        raise HviskError(f"Several of the recordings would be written to {twice[0]}. Give them in separate calls.")


def _channels(path: Path, name: str, options: Options) -> Iterator[tuple[int | None, float]]:
    """Which channels are recordings, None for the mean of all, and how many seconds they may have (0: unknown)."""
    number, seconds = audio.about(path, name=name)
    for channel in range(number) if options.channels == "separate" and number > 1 else (None,):
        yield channel, seconds or 0.0


def _one(
    recording: Path,
    path: Path,
    channel: int | None,
    length: float,
    recogniser: Recogniser,
    options: Options,
    out: Path | None,
    console: Console,
    several: bool,
) -> None:
    name = _name(recording, channel)
    target = destination(out, recording, options.form, channel) if out else None
    if target and target.exists() and not options.overwrite:
        kept(recording, target, console)
        return
    began = time.perf_counter()
    with Bar(console, name) as bar:
        transcript = Transcriber(recogniser).transcribe(
            path,
            language=options.language,
            beam_size=options.beam_size,
            vad=options.vad,
            words=options.words,
            guards=options.guards,
            channel=channel,
            name=_name(recording, None),
            on_progress=lambda done: bar.audio(done, max(length, done, 1e-3)),
        )
    took = time.perf_counter() - began
    if target:
        try:
            files.write_bytes(target, writers.encoded(transcript, options.form, Path(name).name))
        except OSError as error:
            raise HviskError(
                f"{audio.shown(target)} cannot be written: {error.strerror or error}. What is finished is kept, and the same "
                "command goes on from there."
            ) from error
    if options.as_json:
        place = {
            "file": address(recording) or audio.shown(recording),
            **({} if channel is None else {"channel": channel + 1}),
        }
        print(json.dumps({**place, **json.loads(writers.to_json(transcript))}, ensure_ascii=False), flush=True)
    elif target:
        print(audio.shown(target), flush=True)
    else:
        text = writers.WRITERS[options.form](transcript)
        print((f"--- {name} ---\n" if several or channel is not None else "") + text, end="", flush=True)
    console.print(
        f"{name}: {transcript.seconds:.1f} s of audio in {took:.1f} s, {transcript.seconds / took:.0f} times real time"
        + _told(transcript),
        markup=False,
        soft_wrap=True,
    )


def _told(transcript: longform.Transcript) -> str:
    """What the guards did, as the end of a line."""
    counts = {reason: number for reason, number in writers.guarded(transcript).items() if number}
    names = {"drawn": "drawn again", "doubtful": "doubtful", "no speech": "left out as no speech"}
    told = [f"{number} {names.get(reason, 'left out as credits')}" for reason, number in counts.items()]
    if put_in := sum(len(segment.hotwords) for segment in transcript.segments):
        told.append(f"{put_in} expected word{'s' * (put_in != 1)} put in")
    if not transcript.segments:
        told.insert(0, "no speech was found")
    return "".join(f"; {part}" for part in told)


def kept(recording: Path, target: Path, console: Console) -> None:
    """Tell that a recording's file is there already."""
    console.print(
        f"{_name(recording, None)}: {audio.shown(target)} is there already (--overwrite makes it again)",
        markup=False,
        soft_wrap=True,
    )


def _name(recording: Path, channel: int | None) -> str:
    name = "standard input" if recording == inputs.STDIN else address(recording) or audio.shown(recording)
    return name if channel is None else f"{name}, channel {channel + 1}"


def destination(out: Path, recording: Path, form: str, channel: int | None) -> Path:
    """Return the file in `out` that a recording is written to, or one channel of it."""
    stem = "stdin" if recording == inputs.STDIN else recording.stem
    if url := address(recording):
        stem = Path(unquote(urlsplit(url).path)).stem or "recording"
    return out / (f"{stem}.{form}" if channel is None else f"{stem}.{channel + 1}.{form}")
