"""hvisk listen: captions while somebody speaks."""

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvisk.commands.options import Beam, Language, Style, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvisk.recogniser.inbox import Inbox
    from hvisk.recogniser.live import Caption
    from hvisk.recogniser.longform import Segment

PIPE = Path("-")
TOLD_SECONDS = 10.0  # of dropped sound, until it is told again


def listen(
    model: Annotated[
        str | None, typer.Option(help="A model's directory or a Hub id; by default what hvisk demo made.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="A microphone's number or a part of its name; by default the system's.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="Instead of a microphone: a file, played as if it were one, or - for a pipe."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Save the transcript to this file as it grows: .txt, .srt, .vtt, .tsv or .json.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")] = False,
    beam_size: Beam = 5,
    language: Language = "da",
    style: Style = None,
    list_devices: Annotated[bool, typer.Option("--list-devices", help="List the microphones, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every caption as it changes, a JSON object a line.")
    ] = False,
) -> None:
    """Show what is being said: sure words bold, the rest faint, on this machine alone. Ctrl-C ends it."""
    if list_devices:
        _list(as_json)
        return
    import numpy as np

    from hvisk import models
    from hvisk.audio import SAMPLE_RATE
    from hvisk.recogniser import writers
    from hvisk.recogniser.engine import Recogniser
    from hvisk.recogniser.inbox import POLL_SECONDS, Inbox, captions
    from hvisk.recogniser.live import Live
    from hvisk.terminal import talk

    if source is not None and device is not None:
        raise typer.BadParameter("--input stands in for a microphone: leave out --device")
    if out and out.suffix.lower().lstrip(".") not in writers.WRITERS:
        raise typer.BadParameter(f"--out {out} must end in {', '.join('.' + form for form in writers.WRITERS)}")
    if out and out.exists() and not overwrite:
        raise typer.BadParameter(f"{out} is there already: give --out another name, or add --overwrite")
    console = talk()

    def tell(sentence: str) -> None:
        console.print(sentence, style="yellow", markup=False, soft_wrap=True)

    # One growing utterance is work for one core.
    recogniser = Recogniser.load(models.recognisable(model), threads=1).styled(style)
    # The first words should not wait for what is loaded at its first use.
    second = np.zeros(SAMPLE_RATE, np.float32)
    recogniser.recognise([second], language=language)
    Live(recogniser, language=language).feed(second)

    live = Live(recogniser, language=language, beam_size=beam_size)
    inbox = Inbox(lossy=source is None)
    name, blocks = _blocks(source, device, inbox.stopped, tell)
    saved = _Saved(out, language, tell)
    next_told = 0.0
    with _stopping(inbox), _shown(as_json, inbox) as show:
        console.print(f"Listening to {name}. Ctrl-C ends it.", markup=False, soft_wrap=True)
        thread = inbox.fill(blocks)
        try:
            for caption in captions(live, inbox):
                show(caption)
                if caption.final:
                    saved.add(caption.final, live.heard)
                if inbox.dropped / SAMPLE_RATE > next_told:
                    next_told = inbox.dropped / SAMPLE_RATE + TOLD_SECONDS
                    tell(_dropped(inbox))
        finally:
            interrupted = inbox.stopped.is_set()
            inbox.stop()
            thread.join(3 * POLL_SECONDS)  # closes the device; a pipe in which nothing comes is left alone
    saved.finish(live.heard)
    kept = f", saved to {out}" if out else ""
    console.print(f"{live.heard:.1f} s heard, {live.count} utterances{kept}.", markup=False, soft_wrap=True)
    if inbox.dropped:
        tell(_dropped(inbox))
    if interrupted and source not in (None, PIPE):
        raise typer.Exit(130)


def _list(as_json: bool) -> None:
    from dataclasses import asdict

    from hvisk.recogniser import microphone

    found = microphone.devices()
    if as_json:
        print_json([asdict(device) for device in found])
        return
    for device in found:
        mark = "  (default)" if device.default else ""
        print(f"{device.number:3d}  {device.name}, {device.channels} channels, {device.rate:.0f} Hz{mark}")
    if not found:
        print("There is no microphone. A file can stand in: hvisk listen --input FILE", file=sys.stderr)


def _blocks(
    source: Path | None, device: str | None, stopped: threading.Event, tell: Callable[[str], None]
) -> tuple[str, Generator["NDArray[np.float32]", None, None]]:
    """Return what the source of the sound is called, and its blocks."""
    from hvisk.recogniser import microphone, pipe

    if source == PIPE:
        # Unbuffered: a buffer would wait until it is full, and its lock would be held when the program ends.
        return "the pipe", pipe.piped(open(0, "rb", buffering=0, closefd=False), "The pipe", tell)
    if source is not None:
        return str(source), microphone.playing(source, stopped)
    return microphone.microphone(int(device) if device and device.isdecimal() else device, tell)


@contextlib.contextmanager
def _stopping(inbox: "Inbox") -> Iterator[None]:
    """The first Ctrl-C, or a polite kill, ends the listening; what was said is still recognised. A second ends that too."""

    def stop(number: int, frame: Any) -> None:
        if inbox.stopped.is_set():
            raise KeyboardInterrupt
        inbox.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown(as_json: bool, inbox: "Inbox") -> Iterator[Callable[["Caption"], None]]:
    """Give what shows a caption: a line that grows in a terminal, finished lines elsewhere, or JSON."""
    from rich.console import Console
    from rich.live import Live as Region
    from rich.text import Text

    console = Console(highlight=False)
    if as_json:
        yield lambda caption: print(json.dumps(_event(caption, inbox), ensure_ascii=False), flush=True)
        return
    if not console.is_terminal:
        yield lambda caption: print(_text(caption), flush=True) if _text(caption) else None
        return
    with Region(console=console, auto_refresh=False, transient=True) as region:

        def show(caption: "Caption") -> None:
            stamp = (f"{int(caption.start) // 60:3d}:{int(caption.start) % 60:02d}  ", "dim")
            if caption.final is None:
                line = Text.assemble(stamp, (caption.committed, "bold"), (caption.tentative, "dim"))
                region.update(line, refresh=True)
                return
            region.update(Text(""), refresh=True)
            if text := _text(caption):
                console.print(Text.assemble(stamp, text))

        yield show


def _text(caption: "Caption") -> str:
    """The finished text, empty while it is not, and for what was left out."""
    return caption.final.text if caption.final and caption.committed else ""


def _event(caption: "Caption", inbox: "Inbox") -> dict[str, Any]:
    """A caption for a machine: seconds to the millisecond; `dropped` are seconds of sound, so far."""
    from hvisk.audio import SAMPLE_RATE

    final = caption.final
    return {
        "utterance": caption.utterance,
        "start": round(caption.start, 3),
        "end": round(caption.end, 3),
        "committed": caption.committed,
        "tentative": caption.tentative,
        "final": final is not None,
        **({"text": _text(caption), "score": round(final.score, 4), "doubt": final.doubt} if final else {}),
        "dropped": round(inbox.dropped / SAMPLE_RATE, 3),
    }


def _dropped(inbox: "Inbox") -> str:
    from hvisk.audio import SAMPLE_RATE

    return (
        f"{inbox.dropped / SAMPLE_RATE:.1f} s of sound were dropped so far: recognising is slower than speech here. "
        "Take a smaller model, or --beam-size 1."
    )


class _Saved:
    """The transcript on disk, whole after each utterance. What cannot be written at one is written at the next."""

    def __init__(self, path: Path | None, language: str, tell: Callable[[str], None]) -> None:
        self.path, self.language, self.tell = path, language, tell
        self.segments: list[Segment] = []
        self.finish(0.0)  # a place that cannot be written to is told before an hour is spoken

    def add(self, segment: "Segment", heard: float) -> None:
        """Add an utterance; a disk that is full now is told, and no reason to stop."""
        from hvisk.errors import HviskError

        if segment.text:
            self.segments.append(segment)
            try:
                self.finish(heard)
            except HviskError as error:
                self.tell(str(error))

    def finish(self, heard: float) -> None:
        """Write all of it. Raises HviskError where that cannot be done."""
        from hvisk.errors import HviskError
        from hvisk.recogniser import writers
        from hvisk.recogniser.longform import Transcript

        if self.path is None:
            return
        try:
            writers.save(Transcript.of(self.segments, self.language, heard), self.path)
        except OSError as error:
            raise HviskError(
                f"{self.path} cannot be written: {error.strerror or error}. Give --out another place."
            ) from error
