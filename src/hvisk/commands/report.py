"""hvisk report and doctor: what a person would rather look at than read."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Json


def report(
    run: Annotated[Path, typer.Argument(help="A training run: the 'out' of its recipe.")],
    evaluation: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="What hvisk evaluate wrote; repeatable, the final one last."),
    ] = None,
    on: Annotated[Path | None, typer.Option(help="The corpus evaluated on, for clips to listen to.")] = None,
    exported: Annotated[Path | None, typer.Option("--export", help="The export, for its parity proof.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page; by default report.html in the run.")] = None,
) -> None:
    """Write one HTML page: what was trained on what, the learning curve, scores, and clips to listen to."""
    from hvisk.report import gather, page

    pairs = [tuple(text.partition("=")[::2]) for text in evaluation or ()]
    if not all(name and directory for name, directory in pairs):
        raise typer.BadParameter("write --evaluation as NAME=DIR, for example --evaluation 'after training=runs/eval'")
    target = out or run / "report.html"
    page.write(target, gather.gather(run, [(name, Path(path)) for name, path in pairs], corpus=on, export=exported))
    print(target)


def doctor(
    online: Annotated[bool, typer.Option("--online", help="Also ask whether the Hub answers.")] = False,
    as_json: Json = False,
) -> None:
    """Tell what this machine has for hvisk, and what each missing piece would need."""
    from rich.console import Console

    from hvisk import doctor as machine

    findings = machine.examine(online=online)
    if as_json:
        print(machine.as_json(findings))
    else:
        Console(highlight=False).print(machine.render(findings))
