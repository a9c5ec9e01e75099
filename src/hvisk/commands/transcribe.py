"""hvisk transcribe: recordings become text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hvisk.commands.options import Beam, Json, Language, Threads, fail


def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Sound or video files.")],
    model: Annotated[
        str | None, typer.Option(help="A model's directory or a Hub id; by default what hvisk demo made.")
    ] = None,
    form: Annotated[
        Literal["txt", "srt", "vtt", "json"], typer.Option("--format", help="txt, srt, vtt or json.")
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
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Turn recordings into text, on this machine alone."""
    from hvisk import models
    from hvisk.recogniser import batch
    from hvisk.recogniser.engine import Recogniser
    from hvisk.terminal import talk

    if out is None and len(files) > 1 and form != "txt" and not as_json:
        raise typer.BadParameter(f"several files in one stream of {form} cannot be told apart: add --out DIR or --json")
    options = batch.Options(
        form=form, language=language, beam_size=beam_size, vad=vad, overwrite=overwrite, as_json=as_json
    )
    recogniser = Recogniser.load(models.recognisable(model), threads=threads)
    broken = batch.transcribe(files, recogniser, options, out, talk())
    if broken:
        fail(f"{len(broken)} of {len(files)} files could not be transcribed: {', '.join(map(str, broken))}.")
