"""A run's checkpoints on the Hub, so that a fresh machine goes on where another one was switched off.

prepare   an empty run directory takes what the repository has; the repository is made where there is none, private
pushing   newest checkpoint, best one and log, in one commit, in the background: training never waits and never stops
          for it, and only the last push is waited for
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from hvisk.errors import HviskError
from hvisk.train import checkpoint
from hvisk.train.checkpoint import State
from hvisk.train.session import Session

BETWEEN = 30 * 60.0  # seconds from one push to the next: the Hub keeps every one in its history, half a GB each
RETRY = (10.0, 60.0, 300.0, 600.0)  # seconds before another attempt
LAST_ATTEMPTS = 4  # of the last push, before its failure is told and the run ends

Push = Callable[[State], None]


def prepare(repo: str, run: Path, console: Console) -> None:
    """Make the repository, private, where there is none; where `run` has not begun, go on from what lies there.

    HviskError where the Hub refuses or cannot be reached: without it nobody can know whether a run is to be resumed.
    """
    from huggingface_hub import HfApi, constants

    begun = (run / "log.jsonl").exists()
    try:
        HfApi().create_repo(repo, private=True, exist_ok=True)
        if not begun:
            _fetch(repo, run, console)
    except Exception as error:  # the HTTP client behind huggingface_hub changes with its version, and its errors too
        if begun and _status(error) not in (401, 403, 404):
            console.print(
                f"{repo} cannot be reached now ({_reason(error)}); pushing will be tried again.", markup=False
            )
            return
        raise HviskError(
            f"push_to = '{repo}' cannot be used ({_reason(error)}). It must be OWNER/NAME at {constants.ENDPOINT}, and the "
            "token must be allowed to write there: log in with hf auth login, or set HF_TOKEN. Without it: --set push_to="
        ) from error


def _fetch(repo: str, run: Path, console: Console) -> None:
    from huggingface_hub import HfApi, snapshot_download

    if "log.jsonl" not in HfApi().list_repo_files(repo):
        return
    console.print(f"Fetching the run from {repo}", markup=False)
    arrived = run / ".fetched.partial"
    snapshot_download(repo, local_dir=arrived, allow_patterns=["*.json", "*.jsonl", "predictions/*", "checkpoints/*"])
    for name in (
        "predictions",
        "checkpoints",
        "recipe.json",
        "log.jsonl",
    ):  # the log last: it says that the run has begun
        if (run / name).is_dir():
            shutil.rmtree(run / name)
        if (arrived / name).exists():
            (arrived / name).replace(run / name)
    shutil.rmtree(arrived)


@contextlib.contextmanager
def pushing(repo: str, run: Path, console: Console, session: Session) -> Iterator[Push]:
    """Yield what pushes the run as it is at a checkpoint; at the end of the block the last push is waited for.

    It returns at once. While one push is under way, or BETWEEN has not passed, newer checkpoints replace each other. An
    error in the block gives the last push up. Without `repo` nothing happens.
    """
    if not repo:
        yield lambda state: None
        return
    pusher = _Pusher(repo, run, console, session)
    pusher.thread.start()
    try:
        yield pusher.push
    except BaseException:
        pusher.give_up()
        raise
    pusher.finish()


class _Pusher:
    """A thread and the one snapshot that waits for it."""

    def __init__(self, repo: str, run: Path, console: Console, session: Session) -> None:
        self.repo, self.run, self.console, self.session = repo, run, console, session
        self.waiting: Path | None = None
        self.ends = self.gives_up = False
        self.failures = 0  # in a row
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._work, name="hvisk-push", daemon=True)

    def push(self, state: State) -> None:
        taken = snapshot(self.run, state)
        with self.changed:
            if self.waiting:
                shutil.rmtree(self.waiting)
            self.waiting = taken
            self.changed.notify()

    def finish(self) -> None:
        with self.changed:
            self.ends, self.failures = True, 0
            self.changed.notify()
        self.console.print(f"Pushing the last checkpoint to {self.repo}", markup=False)
        self.thread.join()

    def give_up(self) -> None:
        with self.changed:
            self.ends = self.gives_up = True
            self.changed.notify()

    def _work(self) -> None:
        last = -BETWEEN
        while True:
            with self.changed:
                while not self.gives_up and (self.waiting or not self.ends):
                    pause = RETRY[min(self.failures, len(RETRY)) - 1] if self.failures else BETWEEN * (not self.ends)
                    left = last + pause - time.monotonic()
                    if self.waiting and left <= 0:
                        break
                    self.changed.wait(left if self.waiting else None)
                taken, self.waiting = self.waiting, None
            if taken is None or self.gives_up:
                return
            last = time.monotonic()
            try:
                upload(self.repo, taken)
            except Exception as error:  # whatever it is: training goes on
                self._failed(taken, error)
            else:
                self.session.took("push", time.monotonic() - last)
                self.failures = 0
                shutil.rmtree(taken)

    def _failed(self, taken: Path, error: Exception) -> None:
        with self.changed:
            self.failures += 1
            final = self.ends and self.failures >= LAST_ATTEMPTS
            if self.waiting or final:
                shutil.rmtree(taken)
            else:
                self.waiting = taken
        then = f"The checkpoint stays in {self.run}." if final else "It will be tried again."
        self.console.print(f"Pushing to {self.repo} failed ({_reason(error)}). {then}", markup=False)


def snapshot(run: Path, state: State) -> Path:
    """Return a directory with the run as it is now, log and newest and best checkpoint, that nobody changes any more.

    It is made of hard links, which cost nothing: files of a run are replaced and deleted, never written to.
    """
    taken = run / f".push-{state.step:06d}.partial"
    shutil.rmtree(taken, ignore_errors=True)
    best = run / "checkpoints" / f"{state.best_step or 0:06d}"
    wanted = [run / "recipe.json", run / "log.jsonl", run / "predictions", *checkpoint.found(run)[-1:], best]
    for path in wanted:
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            place = taken / file.relative_to(run)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                _link(file, place)
    return taken


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place)
    except OSError:  # a file system without them
        shutil.copyfile(file, place)


def upload(repo: str, directory: Path) -> None:
    """Make the repository hold what `directory` holds, in one commit; its older checkpoints go.

    One commit, which upload_folder does not promise: whoever fetches meanwhile sees the old state or the new one.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hidden = are_progress_bars_disabled()
    disable_progress_bars()  # they would tear up the bar of the training
    try:
        api = HfApi()
        added = {p.relative_to(directory).as_posix(): p for p in sorted(directory.rglob("*")) if p.is_file()}
        old = [name for name in api.list_repo_files(repo) if name.startswith("checkpoints/") and name not in added]
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in added.items()]
        deleted = [CommitOperationDelete(path_in_repo=name) for name in old]
        api.create_commit(repo, [*operations, *deleted], commit_message=f"hvisk: {directory.stem.strip('.')}")
    finally:
        if not hidden:
            enable_progress_bars()


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException) -> str:
    while error.__cause__:  # "Error while uploading" alone tells nobody what to do
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
