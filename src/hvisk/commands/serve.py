"""hvisk serve: transcripts for this machine, or for an office."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Beam, Language


def serve(
    model: Annotated[
        str | None,
        typer.Option(help="A model's directory, or a Hub id that was fetched before; by default the demo's."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8177,
    token: Annotated[
        str, typer.Option(envvar="HVISK_TOKEN", help="What clients must know; better given in the environment.")
    ] = "",
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="A name that the server goes by; repeatable.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for everything that is kept; by default ~/.local/share/hvisk.")
    ] = None,
    database: Annotated[
        str,
        typer.Option(envvar="HVISK_DATABASE", help="Where jobs are kept, as an URL of SQLAlchemy's; SQLite in --data."),
    ] = "",
    keep_audio: Annotated[
        float, typer.Option("--keep-audio", min=0, metavar="HOURS", help="Sound after its transcript is done; 0: none.")
    ] = 24.0,
    keep_transcripts: Annotated[
        float, typer.Option("--keep-transcripts", min=0, metavar="DAYS", help="Transcripts after they are done.")
    ] = 30.0,
    forget: Annotated[
        bool, typer.Option("--forget", help="Keep nothing: no sound, and transcripts for an hour or until the end.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Recognisers at once; 0 is one a core, four at most.")] = 0,
    beam_size: Beam = 5,
    language: Language = "da",
    guards: Annotated[bool, typer.Option("--guards/--no-guards", help="As in hvisk transcribe.")] = True,
    file_mib: Annotated[int, typer.Option("--max-file", min=1, metavar="MIB", help="Size of a recording.")] = 2048,
    hours: Annotated[
        float, typer.Option("--max-hours", min=0.01, metavar="HOURS", help="Length of a recording.")
    ] = 12.0,
    proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe X-Forwarded-For and -Proto of a proxy on this machine.")
    ] = False,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a page and OpenAI's audio API: recordings are recognised here, and nothing is sent anywhere."""
    import os
    import sys
    from urllib.parse import quote

    from hvisk.errors import require

    for package in ("fastapi", "uvicorn", "sqlalchemy", "prometheus_client", "python_multipart", "websockets"):
        require(package, "serve", "serve transcripts")
    from hvisk.serve import server, settings

    cores = os.cpu_count() or 1
    count = workers or min(cores, 4)
    folder = data or _folder()
    wanted = settings.Settings(
        data=folder / "forgotten" if forget else folder,
        model=model,
        host=host,
        port=port,
        token=token,
        names=tuple(name or ()),
        database="" if forget else database,
        workers=count,
        threads=max(1, cores // count),
        language=language,
        beam_size=beam_size,
        guards=guards,
        keep_audio=0.0 if forget else keep_audio * 3600,
        keep_transcripts=3600.0 if forget else keep_transcripts * 24 * 3600,
        forget=forget,
        proxy=proxy,
        limits=settings.Limits(file_bytes=file_mib << 20, audio_seconds=hours * 3600),
    )

    def opened(actual: int) -> None:
        shown = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host
        url = f"http://{shown}:{actual}/"
        print(url, flush=True)
        print(f"Everything is kept in {wanted.data}. Ctrl-C ends the service.", file=sys.stderr)
        if browser:
            _show(f"{url}#token={quote(token, safe='')}" if token else url)

    server.serve(wanted, opened)


def _folder() -> Path:
    import os

    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "hvisk"


def _show(url: str) -> None:
    import os
    import sys
    import webbrowser

    # Without a screen, webbrowser would start a browser in this terminal.
    if sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
