"""hvisk report, card, push and doctor: what a model is, for those who look at it, and what this machine has."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Json, following

Evaluations = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=DIR", help="What hvisk evaluate wrote; repeatable, the final one last."),
]


def report(
    run: Annotated[Path, typer.Argument(help="A training run: the 'out' of its recipe.")],
    evaluation: Evaluations = None,
    on: Annotated[Path | None, typer.Option(help="The corpus evaluated on, for clips to listen to.")] = None,
    exported: Annotated[Path | None, typer.Option("--export", help="The export, for its parity proof.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page; by default report.html in the run.")] = None,
) -> None:
    """Write one HTML page: what was trained on what, the learning curve, scores, and clips to listen to."""
    from hvisk.report import gather, page

    target = out or run / "report.html"
    page.write(target, gather.gather(run, _pairs(evaluation), corpus=on, export=exported))
    print(target)


def card(
    model: Annotated[Path, typer.Argument(help="A Hugging Face model directory of hvisk's, such as a run's 'model'.")],
    evaluation: Evaluations = None,
    repo: Annotated[str, typer.Option(help="Where the model will be: owner/name, for the examples.")] = "",
    run: Annotated[Path | None, typer.Option(help="The training run, for its minutes.")] = None,
    energy: Annotated[
        float | None, typer.Option(min=0, help="Energy of the training in kWh, where it was measured.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The card; by default README.md in the model's directory.")] = None,
) -> None:
    """Write the model's card: figures that name their scale, data, licence, limits, and how to run it anywhere."""
    from hvisk import files
    from hvisk.report import card as cards

    target = out or model / "README.md"
    files.write_text(target, cards.render_card(model, _pairs(evaluation), repo_id=repo, run=run, energy_kwh=energy))
    print(target)
    following(f"read {target}, then hvisk push {model} {repo or 'OWNER/NAME'}")


def push(
    model: Annotated[Path, typer.Argument(help="A Hugging Face model directory with its card, from hvisk card.")],
    repo: Annotated[str, typer.Argument(help="owner/name on the Hub; it is made where there is none.")],
    evaluation: Evaluations = None,
) -> None:
    """Upload model, card and predictions to the Hub, in one commit."""
    from hvisk.errors import HviskError
    from hvisk.report import card as cards

    path = model / "README.md"
    if not path.exists():
        raise HviskError(f"{model} has no card. Write it first: hvisk card {model} --repo {repo}")
    print(cards.push(model, path.read_text(encoding="utf-8"), repo, predictions=_pairs(evaluation)))


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


def _pairs(evaluations: list[str] | None) -> list[tuple[str, Path]]:
    pairs = [tuple(text.partition("=")[::2]) for text in evaluations or ()]
    if not all(name and directory for name, directory in pairs):
        raise typer.BadParameter("write --evaluation as NAME=DIR, for example --evaluation 'after training=runs/eval'")
    return [(name, Path(path)) for name, path in pairs]
