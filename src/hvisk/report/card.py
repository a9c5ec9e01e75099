"""A model's card for the Hugging Face Hub, written from what the model and its evaluations say of themselves; and upload.

The metadata is built and checked by huggingface_hub's own classes. Nothing in a card is a guess: what is not known is
said to be unknown.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from hvisk import __version__, files, licences
from hvisk.errors import HviskError, ModelError
from hvisk.report import templates


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
    given = licences.flow_down(licences.learnt_from(about))
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
        license_name=_slug(given.name).replace("/", "-")[:80] if given.id == "other" else None,
        license_link=(given.link or None) if given.id == "other" else None,
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
    environment = templates.environment(html=False)  # Markdown: texts are escaped by the filter `plain`
    environment.filters["plain"] = _plain
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


def _private(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts) or path == root / "README.md"
