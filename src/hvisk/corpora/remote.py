"""Files on the Hugging Face Hub, read over HTTP with patience: in pieces, each tried again while the fault may pass."""

import importlib
import io
import itertools
import logging
import random
from collections.abc import Callable
from pathlib import Path
from time import sleep  # by name: tests count the waits instead of waiting
from typing import Any, TypeVar

from hvisk.errors import CorpusError

TRIES = 6  # of one request; with the waits below, half a minute without a Hub
FIRST_WAIT = 1.0  # seconds; doubles with each try
LONGEST_WAIT = 300.0  # seconds; a Hub that wants more is asked again tomorrow
PATIENCE = 30.0  # seconds without a byte
PIECE = 32 * 2**20  # bytes of a request

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)

T = TypeVar("T")


class NoRevision(CorpusError):  # noqa: N818  (it reads as the sentence that it is)
    """A branch or commit that a dataset has not, or no longer."""


def patient(action: Callable[[], T], repo: str) -> T:
    """Return what `action` returns, which speaks to the Hub: tried again, after longer and longer waits, while it fails for
    reasons that pass (429, 5xx, a cut connection). Raises CorpusError, with what to do, for reasons that stay."""
    from huggingface_hub import errors

    # Its HTTP client changes with its version, and the client's errors too: they are the bases of its own.
    passing: tuple[Any, ...] = (*errors.HfHubHTTPError.__bases__, OSError)
    for attempt in range(1, TRIES + 1):
        try:
            return action()
        except passing as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            stays = status is not None and status not in _TRANSIENT
            if stays or isinstance(error, errors.OfflineModeIsEnabled):
                raise _explained(error, status, repo) from error
            # Jitter keeps several workers from coming back all at once.
            wait = max(FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(0.75, 1.25), _retry_after(error))
            if attempt == TRIES or wait > LONGEST_WAIT:
                raise _given_up(error, repo, attempt, wait) from error
            logging.getLogger(__name__).warning("%s: %s; again in %.0f s", repo, _brief(error), wait)
            sleep(wait)
        except errors.HFValidationError as error:
            raise CorpusError(f"'{repo}' is no dataset's id: {error}") from error
    raise AssertionError("unreachable")


def listing(repo: str, revision: str) -> tuple[str, list[tuple[str, int]], list[dict[str, Any]]]:
    """Return the commit that a branch is at, its files with their sizes, and the configs that the dataset's card declares.

    Raises NoRevision for a branch or commit that is not there, CorpusError for what else stands in the way.
    """
    from huggingface_hub import HfApi

    info = patient(lambda: HfApi().dataset_info(repo, revision=revision, files_metadata=True, timeout=PATIENCE), repo)
    declared = (info.card_data.get("configs") if info.card_data else None) or []
    held = sorted((file.rfilename, int(file.size or 0)) for file in info.siblings or [])
    return str(info.sha), held, [config for config in declared if isinstance(config, dict)]


def download(repo: str, commit: str, file: str, size: int, to: Path) -> None:
    """Bring a file to `to`; what is there already is taken for its beginning, and goes on."""
    remote = Remote(repo, commit, file, size)
    to.parent.mkdir(parents=True, exist_ok=True)
    with to.open("ab") as sink:
        for start in range(sink.tell(), size, PIECE):
            remote.fetch(start, start + PIECE)
            sink.write(remote.window)


class Remote(io.RawIOBase):
    """A file on the Hub as one that can be sought in. `fetch` brings a stretch of it into memory, in place of the last."""

    def __init__(self, repo: str, commit: str, file: str, size: int) -> None:
        from huggingface_hub import hf_hub_url

        super().__init__()
        self.repo, self.size, self.at = repo, size, 0
        self.url = hf_hub_url(repo, file, repo_type="dataset", revision=commit)
        self.start, self.window = 0, b""

    def fetch(self, start: int, end: int) -> None:
        """Bring bytes `start` to before `end` into memory, unless they are there."""
        start, end = max(start, 0), min(end, self.size)
        if start < self.start or end > self.start + len(self.window):
            edges = [*range(start, end, PIECE), end]
            self.window = b""  # not two at once
            pieces = [self._patient_piece(*edge) for edge in itertools.pairwise(edges)]
            self.start, self.window = start, b"".join(pieces)

    def _patient_piece(self, start: int, end: int) -> bytes:
        return patient(lambda: self._piece(start, end), self.repo)

    def _piece(self, start: int, end: int) -> bytes:
        utils: Any = importlib.import_module("huggingface_hub.utils")  # it names what it exports in no way mypy reads
        headers = {**utils.build_hf_headers(), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        response = utils.get_session().get(self.url, headers=headers, timeout=PATIENCE)
        utils.hf_raise_for_status(response)
        content = response.content
        if response.status_code != 206:
            raise CorpusError(f"{self.url} does not give out parts of a file: a proxy or mirror between may be why.")
        if len(content) != end - start:
            raise ConnectionError(f"{len(content)} of {end - start} bytes came")
        return bytes(content)

    def readinto(self, buffer: Any) -> int:
        end = min(self.at + len(buffer), self.size)
        if end <= self.at:
            return 0
        self.fetch(self.at, end)
        buffer[: end - self.at] = self.window[self.at - self.start : end - self.start]
        count, self.at = end - self.at, end
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _explained(error: Exception, status: int | None, repo: str) -> CorpusError:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{repo}"
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return CorpusError(
            f"{repo} is open only to those who asked for it, or does not exist. Visit {page}, accept its terms with your "
            "account, then log in here with: hf auth login. After that the same command goes on."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return NoRevision(
            f"{repo} no longer has the revision that was asked for ({page}/tree/main). A corpus begun with it cannot be "
            "finished: delete it, or choose another --out."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return CorpusError(
            f"{constants.ENDPOINT} shows no dataset '{repo}'. Check its name at {page}; if it is private, log in with: "
            "hf auth login"
        )
    return CorpusError(
        f"{repo} cannot be read from {constants.ENDPOINT}: {_brief(error)}. Check HF_ENDPOINT and HF_HUB_OFFLINE."
    )


def _given_up(error: Exception, repo: str, tries: int, wait: float) -> CorpusError:
    later = f"It asks for {wait / 60:.0f} minutes of patience" if wait > LONGEST_WAIT else f"Tried {tries} times"
    return CorpusError(
        f"{repo} cannot be reached: {_brief(error)}. {later}. What is written stays: the same command goes on from there."
    )


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _retry_after(error: Exception) -> float:
    """Seconds that the Hub asks to wait, 0 where it does not say (dates are not used by it)."""
    said = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    return float(said) if said.isdigit() else 0.0
