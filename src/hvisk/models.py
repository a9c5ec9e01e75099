"""A model's name becomes a directory: one on disk, one that ships with hvisk, or one from the Hugging Face Hub.

    name -> hugging_face() -> config.json, model.safetensors, tokenizer files ...   to train on and to export
    name -> recognisable() -> model.bin ...                                         to recognise with; made once, kept

What is here already is used without asking anybody: only a Hub id that is not in the cache touches the network, and that
is told on stderr, with the size, the licence and where it is kept. A branch of a Hub's repository stays at the commit that
it had here first (`pins` in the cache directory), whatever becomes of it elsewhere; another one is asked for by name.
"""

import contextlib
import fnmatch
import hashlib
import importlib.resources
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from hvisk.errors import ModelError
from hvisk.files import read_json, sha256, write_json
from hvisk.recogniser import defaults

DEMO = Path("runs/demo/model")  # where `hvisk demo` leaves its model

_SHIPPED = "hvisk:"
_HUB_ID = re.compile(r"(?P<repo>(?P<owner>\w[\w.-]*)/\w[\w.-]*)(@(?P<revision>\S+))?", re.ASCII)
_HUB_TIMEOUT = 10.0  # seconds
_COMMIT = re.compile("[0-9a-f]{40}")
_BRANCH = "main"  # of a Hub id without a revision
_SETTINGS = ("config.json", "generation_config.json", "preprocessor_config.json", "hvisk.json")
_VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_SMALL_FILES = (*_SETTINGS, *_VOCABULARY, "tokenizer_config.json", "normalizer.json")
# Not model*.safetensors: some repositories hold the same weights in other precisions too, gigabytes of them.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors")

_ACCEPTED = (
    "Accepted: a directory with config.json, a training run's directory, hvisk:NAME for a model that ships with hvisk, "
    "or a Hub id such as openai/whisper-tiny or owner/name@revision."
)


def hugging_face(name: str) -> Path:
    """Return the directory of a Hugging Face Whisper: config.json, safetensors and tokenizer files.

    name: such a directory, a training run's (its model/ is meant), "hvisk:NAME" for one that ships with hvisk, or a Hub
    id, "owner/name" or "owner/name@revision", a branch, a tag or a whole commit. A Hub id is downloaded only if Hugging
    Face's cache does not hold it whole; what is cached is not asked after, and stays at its commit. Raises ModelError for a
    name that leads to no such model.
    """
    if not name.strip():
        raise ModelError(f"The model's name is empty. {_ACCEPTED}")
    if name.startswith(_SHIPPED):
        return _shipped(name.removeprefix(_SHIPPED))
    path = Path(name).expanduser()
    if path.is_dir():
        return _inside(path)
    if path.exists():
        raise ModelError(f"{path} is a file. Give the directory that holds it: {path.parent}")
    found = _HUB_ID.fullmatch(name)
    if found is None:
        raise ModelError(f"'{name}' is no directory here and no Hub id. {_ACCEPTED}")
    if Path(found["owner"]).is_dir():  # most likely a mistyped path, which is nobody else's business
        raise ModelError(
            f"There is a directory '{found['owner']}' here and no '{name}' in it; the Hub was not asked. {_ACCEPTED}"
        )
    repo, revision = found["repo"], found["revision"] or _BRANCH
    pinned = _pins(repo).get(revision)
    if pinned and not _snapshot(repo, pinned).is_dir():
        pinned = None  # who deleted it wants it anew; what is here in part is completed at its commit
    here = _cached(repo, pinned or revision) or _downloaded(repo, pinned or revision)
    if here.name not in (pinned, revision):
        _pin(repo, revision, here.name)
    return here


def recognisable(name: str | None = None) -> Path:
    """Return a CTranslate2 directory that Recogniser.load takes.

    name: such a directory, a directory whose model/ is one, or a name for hugging_face(), which is then converted to
    int8 in the cache directory, once for each content. None is the demo's model where there is one in the working
    directory, else `defaults.MODEL` from the Hub; which of them is told on stderr. Raises ModelError where there is no model.
    """
    if name is None:
        name = _default()
    path = Path(name).expanduser()
    for directory in (path, path / "model"):
        if name.strip() and (directory / "model.bin").exists():
            return directory
    from hvisk.export import ct2, origin

    source = hugging_face(name)
    parts = {part: sha256(source / part) for part in _SMALL_FILES if (source / part).exists()}
    # A snapshot of the Hub's is called by its commit; weights of elsewhere are read whole.
    weights = source.name if source.parent.name == "snapshots" else origin.fingerprint(source)
    content = json.dumps([ct2.VERSION, weights, parts])
    out = cache_directory() / "ct2" / hashlib.sha256(content.encode()).hexdigest()[:32]
    if not (out / "model.bin").exists():
        try:
            ct2.convert(source, out, quantisation="int8")
        except OSError as error:
            raise ModelError(
                f"{source} cannot be converted into the cache, {cache_directory()}: {error}. "
                "Set HVISK_CACHE to a directory with room that may be written."
            ) from error
    return out


def cache_directory() -> Path:
    """Return where converted models are kept: $HVISK_CACHE, else hvisk in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("HVISK_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "hvisk"


def _default() -> str:
    if (DEMO / "model.bin").exists():
        _tell(
            f"No model is named: {DEMO}, which hvisk demo made of synthetic speech. For people: --model {defaults.MODEL}"
        )
        return str(DEMO)
    return defaults.MODEL


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _shipped(name: str) -> Path:
    assets = Path(str(importlib.resources.files("hvisk"))) / "assets"
    names = sorted(config.parent.name for config in assets.glob("*/config.json"))
    if name not in names:
        known = ", ".join(_SHIPPED + known for known in names) or "none"
        raise ModelError(f"No model '{name}' ships with this version of hvisk. Those that do: {known}.")
    return assets / name


def _inside(path: Path) -> Path:
    for directory in (path, path / "model"):
        if (directory / "model.bin").exists():
            raise ModelError(
                f"{directory} is a CTranslate2 model, good for recognising alone. Give the Hugging Face model that it "
                "was made of, such as the training run's directory."
            )
        if (directory / "config.json").exists():
            return directory
    checkpoints = sorted(config.parent for config in path.glob("checkpoints/[0-9]*/config.json"))
    newest = f" Its training has not finished; the newest checkpoint is {checkpoints[-1]}." if checkpoints else ""
    raise ModelError(f"{path} holds no model: no config.json, and none in {path / 'model'}.{newest} {_ACCEPTED}")


def _repository(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _snapshot(repo: str, commit: str) -> Path:
    return _repository(repo) / "snapshots" / commit


def _cached(repo: str, revision: str) -> Path | None:
    """Hugging Face's cache as it is laid out on disk: its own functions take a second to import."""
    from hvisk.export.origin import weight_files

    try:
        named = _COMMIT.fullmatch(revision)
        snapshot = _snapshot(repo, revision if named else (_repository(repo) / "refs" / revision).read_text().strip())
        # Other tools may have fetched some of the files only.
        here = {file.name for file in snapshot.iterdir() if file.exists()}
        return snapshot if weight_files(snapshot) and not _missing(here) else None
    except (OSError, ValueError, ModelError):  # not there; no possible id; a part of the weights is missing
        return None


def _pins(repo: str) -> dict[str, str]:
    """The commits that a repository's branches and tags had when they were first here."""
    try:
        held: dict[str, str] = read_json(_pin_file(repo))
    except (OSError, ValueError):
        return {}
    return held


def _pin(repo: str, revision: str, commit: str) -> None:
    # In a cache that may be read only, Hugging Face's own remembers the commit, until another tool moves it.
    with contextlib.suppress(OSError):
        write_json(_pin_file(repo), {**_pins(repo), revision: commit})


def _pin_file(repo: str) -> Path:
    return cache_directory() / "pins" / f"{repo.replace('/', '--')}.json"


def _downloaded(repo: str, revision: str) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    if repo == defaults.MODEL and not constants.HF_HUB_OFFLINE:
        _tell(f"{repo}, the model where none is named, is not here yet: asking {constants.ENDPOINT} for it.")
    try:
        about = HfApi().model_info(repo, revision=revision, timeout=_HUB_TIMEOUT, files_metadata=True)
        files = about.siblings or []
        if missing := _missing({file.rfilename for file in files}):
            raise ModelError(f"The repository {repo} is no Whisper that hvisk can read: {missing}. {_ACCEPTED}")
        _tell(_announced(repo, about))
        # The weights last: once they are there, so is all the rest, whenever this process may be killed.
        snapshot_download(repo, revision=revision, allow_patterns=[*_SMALL_FILES])
        return Path(snapshot_download(repo, revision=revision, allow_patterns=[*_SMALL_FILES, *_WEIGHTS]))
    except ModelError:
        raise
    except Exception as error:  # the HTTP client behind huggingface_hub changes with its version, and its errors too
        raise ModelError(_explained(error, repo, revision)) from error


def _announced(repo: str, about: Any) -> str:
    from huggingface_hub import constants

    wanted = (*_SMALL_FILES, *_WEIGHTS)
    size = sum(f.size or 0 for f in about.siblings if any(fnmatch.fnmatch(f.rfilename, form) for form in wanted))
    licence = getattr(about.card_data, "license", None) or "not stated"
    return (
        f"Fetching {repo} at {about.sha[:12]}, {size / 1e6:.1f} MB, licence: {licence}, from {constants.ENDPOINT} to "
        f"{constants.HF_HUB_CACHE}; once, and nothing is sent."
    )


def _explained(error: Exception, repo: str, revision: str) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repo}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return f"{repo} is open only to those who asked for it. Ask at {page}, then log in here with: hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision '{revision}'. Those that it has are listed at {page}/tree/main"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return (
            f"'{repo}' is no directory here, and {constants.ENDPOINT} shows this machine no such repository. If it is "
            f"private, visit {page} and log in here with: hf auth login. {_ACCEPTED}"
        )
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"{repo} is not in the cache ({constants.HF_HUB_CACHE}), and cannot be fetched from {constants.ENDPOINT} "
        f"({reason}). Check the connection, the proxy, HF_ENDPOINT and HF_HUB_OFFLINE. Without a network, fetch it on another "
        f"machine with: hf download {repo} --local-dir DIR, copy DIR, and name it with --model DIR; or make a model with: "
        "hvisk demo"
    )


def _missing(files: set[str]) -> str | None:
    if not files & {"model.safetensors", "model.safetensors.index.json"}:
        if "model.bin" in files:
            return "it is a CTranslate2 model; fetch it with hf download --local-dir DIR, and give DIR"
        if any(file.startswith("pytorch_model") for file in files):
            return "it has no model.safetensors, only pickled weights, and opening a pickle can run any code in it"
        return "it has no model.safetensors"
    if "config.json" not in files:
        return "it has no config.json"
    if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= files:
        return "it has neither tokenizer.json nor vocab.json with merges.txt"
    return None
