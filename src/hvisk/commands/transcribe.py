"""hvisk transcribe: recordings become text."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hvisk.commands.options import (
    Beam,
    Gpus,
    Hotwords,
    Json,
    Language,
    Processes,
    Prompt,
    Ray,
    Style,
    Threads,
    expected,
    fail,
)
from hvisk.recogniser import defaults

if TYPE_CHECKING:
    from hvisk.recogniser.engine import Recogniser


def transcribe(
    files: Annotated[
        list[Path], typer.Argument(help="Sound or video files, folders, patterns, - for stdin, or addresses.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="A model's directory or a Hub id, owner/name or owner/name@revision; by default what hvisk demo made here, "
            f"else {defaults.MODEL}, which is fetched once."
        ),
    ] = None,
    form: Annotated[
        Literal["txt", "srt", "vtt", "tsv", "json", "docx"],
        typer.Option("--format", help="txt, srt, vtt, tsv, json or docx."),
    ] = "txt",
    out: Annotated[
        Path | None, typer.Option(help="Write a file for each recording to this folder, not to stdout.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Recognise files again that --out holds already.")
    ] = False,
    fetch: Annotated[
        bool,
        typer.Option(
            "--fetch", help="Allow addresses (https://...): the recording is fetched, and deleted afterwards."
        ),
    ] = False,
    beam_size: Beam = defaults.BEAM_SIZE,
    language: Language = defaults.LANGUAGE,
    style: Style = None,
    hotwords: Hotwords = "",
    prompt: Prompt = "",
    vad: Annotated[
        bool, typer.Option("--vad/--no-vad", help="Leave out what is not speech, or recognise every second.")
    ] = defaults.VAD,
    guards: Annotated[
        bool,
        typer.Option(
            "--guards/--no-guards", help="Recognise texts again that go in circles, and leave out non-speech."
        ),
    ] = True,
    credit_lines: Annotated[
        bool, typer.Option("--keep-credits", help="Keep texts such as 'Danske tekster af ...', which nobody said.")
    ] = False,
    channels: Annotated[
        Literal["mix", "separate"], typer.Option(help="Mix a file's channels, or make a transcript of each.")
    ] = "mix",
    words: Annotated[
        bool | None,
        typer.Option(
            "--words/--no-words",
            help="Find out when each word is said: kept in json; in srt and vtt it times the subtitles, and is the default.",
        ),
    ] = None,
    threads: Threads = 0,
    ray: Ray = "",
    processes: Processes = 0,
    gpus: Gpus = 0.0,
    as_json: Json = False,
) -> None:
    """Turn recordings into text, on this machine alone."""
    from hvisk import models
    from hvisk.errors import AudioError
    from hvisk.recogniser import archive, batch, document, inputs, writers
    from hvisk.recogniser.fetch import address
    from hvisk.recogniser.guards import Guards
    from hvisk.terminal import talk

    recordings = inputs.expand(files)
    addresses = [url for url in map(address, recordings) if url]
    if addresses and not fetch:
        raise AudioError(f"{addresses[0]} is on the network, which is left alone unless you allow it: add --fetch.")
    if addresses and ray:
        raise typer.BadParameter("what is fetched here would not be found by the cluster's machines: fetch it first")
    if not any(recording == inputs.STDIN or address(recording) or recording.exists() for recording in recordings):
        raise AudioError(f"{recordings[0]} does not exist. Give files, folders, patterns, or - for the standard input.")
    several = len(recordings) > 1 or channels == "separate"
    if out is None and several and form != "txt" and not as_json:
        raise typer.BadParameter(f"several files in one stream of {form} cannot be told apart: add --out DIR or --json")
    if words and form not in ("json", *writers.SUBTITLES) and not as_json:
        raise typer.BadParameter(f"{form} has no place for the times of words: add --format json or --json")
    if form == "docx":
        if out is None:
            raise typer.BadParameter("a Word document is no text that could be printed: add --out DIR")
        document.check()
    options = batch.Options(
        form=form,
        language=language,
        beam_size=beam_size,
        vad=vad,
        words=form in writers.SUBTITLES if words is None else words,
        guards=Guards(credits=not credit_lines) if guards else None,
        channels=channels,
        overwrite=overwrite,
        as_json=as_json,
    )
    load = functools.partial(_load, style=style, hotwords=expected(hotwords), prompt=prompt)
    directory = models.recognisable(model)
    if ray:
        if out is None:
            raise typer.BadParameter("what is shared out comes in no order that could be printed: add --out DIR")
        name = model if model and not Path(model).expanduser().exists() else str(directory.absolute())
        broken = archive.transcribe(
            recordings, functools.partial(load, name, threads or 1), options, out, talk(), address=ray,
            processes=processes, cores=threads or 1, gpus=gpus,
        )  # fmt: skip
    else:
        broken = batch.transcribe(recordings, load(str(directory), threads), options, out, talk())
    if broken:
        fail(f"{len(broken)} of {len(recordings)} files could not be transcribed: {', '.join(map(str, broken))}.")


def _load(model: str, threads: int, *, style: "Style", hotwords: list[str], prompt: str) -> "Recogniser":
    """Load a model by its name, in a process that works for others too."""
    from hvisk import models
    from hvisk.recogniser.engine import Recogniser

    recogniser = Recogniser.load(models.recognisable(model), threads=threads)
    return recogniser.styled(style).prompted(prompt).expecting(hotwords)
