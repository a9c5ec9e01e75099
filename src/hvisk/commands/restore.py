"""hvisk restore: punctuation and casing for a corpus that has none."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from hvisk.commands.options import Json, Threads, following, print_json


def restore(
    corpus: Annotated[Path, typer.Argument(help="A corpus made by hvisk prepare, or the folder with its splits.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; called again, the work goes on where it stopped.")
    ] = None,
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="A server with OpenAI's chat completions: http://localhost:11434/v1.")
    ] = "",
    llm: Annotated[str, typer.Option(metavar="MODEL", help="The language model, by the server's name for it.")] = "",
    tagger: Annotated[
        str, typer.Option(metavar="DIR_OR_ID", help="An ONNX tagger, for this machine: a directory or a Hub id.")
    ] = "",
    rules: Annotated[
        bool, typer.Option("--rules", help="Rules alone: each text is one sentence. Without it they come last.")
    ] = False,
    keep_plain: Annotated[
        bool, typer.Option("--keep-plain", help="A text that no model restores stays as it is; rules do nothing.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Strip and restore a corpus that has punctuation, and tell how well.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=0, help="Only so many clips of each split, speaker by speaker; 0 is all.")
    ] = 0,
    parallel: Annotated[int, typer.Option(min=1, help="Requests at once to the endpoint.")] = 4,
    per_minute: Annotated[float, typer.Option(min=0, help="Requests a minute that the endpoint allows; 0: any.")] = 0.0,
    price: Annotated[
        str, typer.Option(metavar="IN,OUT", help="The endpoint's US$ for a million tokens in and out: 0.15,0.6.")
    ] = "",
    key_env: Annotated[
        str, typer.Option(metavar="NAME", help="The environment variable with the endpoint's key.")
    ] = "OPENAI_API_KEY",
    threads: Threads = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would take, and ask nobody.")] = False,
    as_json: Json = False,
) -> None:
    """Put punctuation and casing into a corpus' texts; the words are guaranteed to stay the same.

    Backends are asked in this order: the endpoint, the tagger, the rules. What one leaves or gets wrong is the next one's.
    Texts leave this machine for the endpoint alone, audio never does.
    """
    from dataclasses import asdict

    from hvisk import models
    from hvisk.restore import backend as backends
    from hvisk.restore import measure as measuring
    from hvisk.restore import run, work
    from hvisk.restore.cache import Cache
    from hvisk.restore.estimate import Price, estimate
    from hvisk.terminal import Bar, talk

    if bool(endpoint) != bool(llm):
        raise typer.BadParameter("--endpoint and --llm belong together: where the server is, and which model of it")
    if not (endpoint or tagger or rules):
        raise typer.BadParameter("name who restores: --endpoint URL --llm MODEL, --tagger syvai/danish-pnc, or --rules")
    if rules and (endpoint or tagger or keep_plain):
        raise typer.BadParameter(
            "--rules means rules alone; after a model they come anyhow, unless --keep-plain is given"
        )
    if measure and out:
        raise typer.BadParameter("--measure writes nothing: leave out --out")
    if out is None and not (measure or dry_run):
        raise typer.BadParameter("name the folder for the restored corpus: --out corpora/NAME-cased")
    priced = Price.parse(price)
    chain: list[backends.Backend] = []
    if endpoint:
        from hvisk.restore.endpoint import connect

        chain.append(connect(endpoint, llm, key_env=key_env, at_once=parallel, per_minute=per_minute))
    if tagger:
        from hvisk.restore.tagger import load

        chain.append(load(tagger, threads=threads))
    if not keep_plain:
        chain.append(backends.baseline())
    tasks = {split: run.task(store, limit) for split, store in run.corpora(corpus).items()}
    if measure:
        tasks = {split: measuring.strip(task) for split, task in tasks.items()}
    cache = Cache(models.cache_directory() / "restored.sqlite")
    found: dict[str, Any] = {}
    try:
        estimates = {split: estimate(task.lines, chain[0], cache, priced) for split, task in tasks.items()}
        for split, one in estimates.items():
            talk().print(f"{corpus / split}: {one}", markup=False)
        if endpoint and any(one.to_ask for one in estimates.values()):
            talk().print(_privacy(chain[0], key_env), markup=False)
        if dry_run:
            if as_json:
                print_json({split or corpus.name: asdict(one) for split, one in estimates.items()})
            return following("the same without --dry-run, with --limit 100 for a first taste")
        for split, task in tasks.items():
            with Bar(talk(), split or corpus.name) as bar:
                if measure:
                    outcomes = work.restore(task.lines, chain, cache, _watched(bar, priced))
                    report = run.record(task, outcomes, chain)
                    found[split or corpus.name] = {**measuring.measure(task, outcomes), "restored": report}
                else:
                    assert out is not None
                    report = run.restore(task, out / split, chain, cache, _watched(bar, priced))
                    found[split or corpus.name] = {"path": str(out / split), **report}
    finally:
        cache.close()
        for asked in chain:
            asked.close()
    if as_json:
        print_json(found)
    for name, report in found.items():
        if not as_json:
            print(_measured(name, report) if measure else _done(report))
    if measure:
        return following(
            "hvisk restore CORPUS --out CORPUS-cased, with the same backends, for a corpus without punctuation"
        )
    first = found.get("train", next(iter(found.values())))["path"]
    following(f"look at the samples in {first}/{run.NAME}", f"hvisk train RECIPE.toml --set train={first}")


def _watched(bar: Any, price: Any) -> Callable[[Any], None]:
    def show(state: Any) -> None:
        by = [f"{count:,} by {kind}" for kind, count in state.by.items() if kind not in ("", "source")]
        parts = [*by, f"{state.rejected:,} answers not taken"] if state.rejected else by
        if price and state.tokens_in:
            parts.append(f"US$ {price.of(state.tokens_in, state.tokens_out):.2f}")
        bar.update(state.by.total(), state.total, ", ".join(parts))

    return show


def _privacy(backend: Any, key_env: str) -> str:
    if not backend.remote:
        return f"{backend.settings['address']} is on this machine: nothing leaves it."
    return (
        f"To {backend.remote} go these texts, each with those said before and after it, and the key in {key_env} if it is "
        "set. No audio, no names of speakers and no ids leave this machine."
    )


def _done(report: dict[str, Any]) -> str:
    from hvisk.restore.run import shares

    rejected = "".join(f"; {count:,} answers of {kind} not taken" for kind, count in report["rejected"].items())
    repaired = "".join(f"; {count:,} of {kind} mended" for kind, count in report["repaired"].items())
    return f"{report['path']}: {shares(report)}{repaired}{rejected}"


def _measured(name: str, report: dict[str, Any]) -> str:
    from hvisk.restore.run import shares

    def share(value: float | None, interval: tuple[float, float] | None) -> str:
        within = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
        return "-" if value is None else f"{100 * value:.1f} %{within}"

    lines = [f"{name}: {shares(report['restored'])}"]
    for mark, one in report["marks"].items():
        if one["reference"] or one["precision"] is not None:
            lines.append(f"  {mark:<4} F1 {share(one['f1'], one['interval'])}, {one['reference']:,} in the texts")
    capitals, casing = report["casing"]["capitals"], report["casing"]
    lines.append(f"  casing {share(casing['accuracy'], casing['interval'])} of {casing['words']:,} words")
    lines.append(f"  capitals F1 {share(capitals['f1'], capitals['interval'])}, {capitals['reference']:,} in the texts")
    lines.append(f"  the very same text {share(report['exact']['share'], report['exact']['interval'])}")
    lines.append(f"  95 % intervals over {report['over']}")
    return "\n".join(lines)
