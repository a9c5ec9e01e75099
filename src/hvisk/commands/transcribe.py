"""hvisk transcribe: recordings become text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hvisk.commands.options import Beam, Json, Language, Threads, fail


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Sound or video files, folders, patterns, or - for stdin.")],
    model: Annotated[
        str | None, typer.Option(help="A model's directory or a Hub id; by default what hvisk demo made.")
    ] = None,
    form: Annotated[
        Literal["txt", "srt", "vtt", "tsv", "json"], typer.Option("--format", help="txt, srt, vtt, tsv or json.")
    ] = "txt",
    out: Annotated[
        Path | None, typer.Option(help="Write a file for each recording to this folder, not to stdout.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Recognise files again that --out holds already.")
    ] = False,
    beam_size: Beam = 5,
    language: Language = "da",
    vad: Annotated[
        bool, typer.Option("--vad/--no-vad", help="Leave out what is not speech, or recognise every second.")
    ] = True,
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
    words: Annotated[bool, typer.Option("--words", help="Tell when each word is said; in json.")] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Turn recordings into text, on this machine alone."""
    from hvisk import models
    from hvisk.recogniser import batch, inputs
    from hvisk.recogniser.engine import Recogniser
    from hvisk.recogniser.guards import Guards
    from hvisk.terminal import talk

    recordings = inputs.expand(files)
    several = len(recordings) > 1 or channels == "separate"
    if out is None and several and form != "txt" and not as_json:
        raise typer.BadParameter(f"several files in one stream of {form} cannot be told apart: add --out DIR or --json")
    if words and form != "json" and not as_json:
        raise typer.BadParameter(f"{form} has no place for the times of words: add --format json or --json")
    options = batch.Options(
        form=form,
        language=language,
        beam_size=beam_size,
        vad=vad,
        words=words,
        guards=Guards(credits=not credit_lines) if guards else None,
        channels=channels,
        overwrite=overwrite,
        as_json=as_json,
    )
    recogniser = Recogniser.load(models.recognisable(model), threads=threads)
    broken = batch.transcribe(recordings, recogniser, options, out, talk())
    if broken:
        fail(f"{len(broken)} of {len(recordings)} files could not be transcribed: {', '.join(map(str, broken))}.")
