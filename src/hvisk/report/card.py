"""A model's card for the Hugging Face Hub, written from what the model and its evaluations say of themselves; and upload.

The metadata is built and checked by huggingface_hub's own classes. Nothing in a card is a guess: what is not known is
said to be unknown.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from hvisk import __version__, files
from hvisk.errors import HviskError, ModelError
from hvisk.report import numbers

# Licences that ask nothing of what is made of a corpus: a word of theirs -> the Hub's id. All others bind it.
_FREE = {"cc0": "cc0-1.0", "mit": "mit", "apache": "apache-2.0"}
_COMMONS = re.compile(r"cc-by(?:-nc)?(?:-sa|-nd)?(?![a-z])(?:-(?P<version>[1-4]\.[0-9]))?")
_OPENAI = "openai/whisper-"  # Apache 2.0, as their cards on the Hub say


@dataclass(frozen=True)
class Licence:
    """The licence of a model as its data has it. id: the Hub's, "other" where no single one can be named; why: a sentence
    that names the corpora behind it."""

    id: str
    why: str


def licence(corpora: Sequence[Mapping[str, Any]]) -> Licence:
    """Compute a model's licence from that of everything it has learnt from; `corpora` as in hvisk.json, base included.

    One licence that binds what is made of it becomes the model's; two different ones, or one that is not known, make it
    "other"; what asks for no more than a notice leaves it at Apache 2.0 or, where none of it is that, at hvisk's own MIT.
    """
    if not corpora:
        return Licence("unknown", "Nothing is known of the data that it has learnt from, so no licence can be given.")
    bound: dict[str, list[str]] = {}
    unknown, free = [], set()
    for corpus in corpora:
        found = _known(str(corpus.get("licence") or ""))
        if found is None:
            unknown.append(str(corpus["name"]))
        elif found[1]:
            bound.setdefault(found[0], []).append(str(corpus["name"]))
        else:
            free.add(found[0])
    if unknown:
        return Licence("other", f"The licence of {', '.join(unknown)} is none that hvisk knows: read it, and judge.")
    if len(bound) > 1:
        parts = "; ".join(f"{hub} from {', '.join(names)}" for hub, names in bound.items())
        return Licence("other", f"Several licences hold for it at once: {parts}.")
    if bound:
        ((hub, names),) = bound.items()
        return Licence(hub, f"It comes from {', '.join(names)}, whose licence holds for what is made of it too.")
    if "apache-2.0" in free:
        return Licence("apache-2.0", "A part of what it is made of is under Apache 2.0, and nothing asks for more.")
    return Licence("mit", "None of the data that it has learnt from asks for another one.")


def render_card(
    model_dir: Path,
    evaluations: Sequence[tuple[str, Path]],
    *,
    repo_id: str = "",
    run: Path | None = None,
    energy_kwh: float | None = None,
) -> str:
    """Return the card (README.md) of a Hugging Face model directory.

    evaluations: name of the test set and directory of `hvisk evaluate`'s output. repo_id: where the model will be, for
    the examples; "OWNER/NAME" stands there without it. run: the training run's directory, for its minutes. energy_kwh:
    measured, where somebody did.
    ModelError where `model_dir` holds no model that hvisk describes.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    if not (model_dir / "hvisk.json").exists():
        raise ModelError(
            f"{model_dir} has no hvisk.json, so its data and licences are not known and no card can be written. "
            "Give the model directory of a training run, such as runs/NAME/model."
        )
    about = files.read_json(model_dir / "hvisk.json")
    corpora, base_corpora = about.get("corpora", []), about.get("base_corpora", [])
    base = str(about.get("base") or "")
    learnt = [*corpora, *base_corpora]
    if base and not base_corpora:  # weights from elsewhere, whose data nobody wrote down
        learnt.append({"name": base, "licence": "apache-2.0" if base.startswith(_OPENAI) else ""})
    given = licence(learnt)
    scored = [(name, scores) for name, directory in evaluations if (scores := _scores(directory)).get("scales")]
    results = [
        EvalResult(
            task_type="automatic-speech-recognition",
            task_name="Automatic speech recognition",
            dataset_type=_slug(name),
            dataset_name=name,
            metric_type=measure,
            metric_name=f"{measure.upper()}, scale {scale}, version {score.get('version') or 'unknown'}",
            metric_value=round(100 * score[measure], 2),
            metric_args={"scale": scale, "interval_95": _points(score.get(f"{measure}_interval"))},
        )
        for name, scores in scored
        for scale, score in scores.get("scales", {}).items()
        for measure in ("wer", "cer")
        if score.get(measure) is not None
    ]
    name = repo_id.rpartition("/")[2] or model_dir.resolve().name
    language = str(about.get("language") or "da")
    data = ModelCardData(
        language=language,
        license=given.id,
        library_name="transformers",
        pipeline_tag="automatic-speech-recognition",
        tags=["whisper", "speech-recognition", "danish", "hvisk"],
        metrics=["wer", "cer"] if results else None,
        base_model=base if base.count("/") == 1 and ":" not in base else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    body = _template().render(
        name=name,
        repo=repo_id or "OWNER/NAME",
        about=about,
        base=base,
        language=language,
        licence=given,
        corpora=corpora,
        base_corpora=base_corpora,
        hours=sum(corpus.get("seconds") or 0 for corpus in corpora) / 3600,
        synthetic=any("synthetic" in str(corpus["name"]) for corpus in corpora),
        scored=scored,
        training=_training(run),
        energy=energy_kwh,
        version=__version__,
    )
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")  # read back: what it cannot read is not handed on
    return str(card)


def push(
    model_dir: Path, card: str, repo_id: str, *, predictions: Sequence[tuple[str, Path]] = (), token: str | None = None
) -> str:
    """Upload model, card and predictions in one commit, making the repository where there is none; returns its address.

    predictions: name of the test set and evaluation directory; its predictions.jsonl, scores.json and settings.json go to
    evaluation/NAME/. token: the Hub's, None for the one that `hf auth login` keeps. HviskError where the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    wanted = [path for path in sorted(model_dir.rglob("*")) if path.is_file() and not _private(path, model_dir)]
    if not any(path.suffix in (".safetensors", ".bin") for path in wanted):
        raise ModelError(f"{model_dir} holds no weights. Give a model directory, such as runs/NAME/model.")
    added: list[tuple[str, Path | bytes]] = [(path.relative_to(model_dir).as_posix(), path) for path in wanted]
    for name, directory in predictions:
        kept = [directory / part for part in ("predictions.jsonl", "scores.json", "settings.json")]
        added += [(f"evaluation/{_slug(name)}/{path.name}", path) for path in kept if path.exists()]
    added.append(("README.md", card.encode()))
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            operations=[CommitOperationAdd(path_in_repo=place, path_or_fileobj=item) for place, item in added],
            commit_message=f"Model, card and evaluation, by hvisk {__version__}",
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise HviskError(
            f"{repo_id} cannot be uploaded ({reason}). The name must be OWNER/NAME, and the token must be allowed to write "
            "there; log in with: hf auth login"
        ) from error
    return str(commit.repo_url)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(  # Markdown: texts are escaped by the filter `plain`, not as HTML
        loader=jinja2.PackageLoader("hvisk.report", "."),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "interval": numbers.interval,
        "number": numbers.number,
        "plain": _plain,
    }
    return environment.get_template("card.md.jinja")


def _plain(text: object) -> str:
    """A foreign text inside Markdown: no line break, no HTML, no cell or code that it ends."""
    joined = " ".join(str(text).split())
    for mark in "&<>|`*[]":
        joined = joined.replace(mark, f"&#{ord(mark)};")
    return joined


def _scores(directory: Path) -> dict[str, Any]:
    if not (directory / "scores.json").exists():
        raise HviskError(f"{directory} holds no scores.json. Make it with: hvisk evaluate")
    return dict(files.read_json(directory / "scores.json"))


def _training(run: Path | None) -> dict[str, Any] | None:
    """Minutes, steps and hours heard, from the last line of a run's log."""
    if run is None or not (run / "log.jsonl").exists():
        return None
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return dict(json.loads(lines[-1])) if lines else None


def _points(interval: Sequence[float] | None) -> list[float] | None:
    return [round(100 * bound, 2) for bound in interval] if interval else None


def _slug(name: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "-_./" else "-" for letter in name.lower())
    return kept.replace("..", "-").strip("-./") or "corpus"


def _known(said: str) -> tuple[str, bool] | None:
    """The Hub's id of a licence, and whether it binds what is made of the data; the one that asks for most comes first."""
    said = re.sub(r"[\s_]+", "-", said.lower())
    if re.search(r"open-?rail", said):
        return "openrail", True
    if found := _COMMONS.search(said):
        kind = found.group().removesuffix(f"-{found['version']}")
        return f"{kind}-{found['version'] or '4.0'}", True
    for word, hub in _FREE.items():
        if re.search(rf"(?<![a-z]){word}(?![a-z])", said):  # "mit" is not in "permitted"
            return hub, False
    return None


def _private(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts) or path == root / "README.md"
