"""Recordings on the network, for those who ask for it: fetched whole, from where the address leads."""

import http.client
import re
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console

from hvisk.errors import AudioError
from hvisk.terminal import Bar

TRIES = 3
REST_SECONDS = 1.0  # before the second try, and twice as long before each further one
PATIENCE_SECONDS = 30.0  # without a byte
_BLOCK = 1 << 20
_AGAIN = (408, 429, 500, 502, 503, 504)


def address(name: Path) -> str | None:
    """Return the address on the network that a command line's path stands for; None for a file's."""
    found = re.match(r"(https?):/+(?=[^/])", name.as_posix(), re.IGNORECASE)  # a Path makes one slash of two
    return f"{found[1]}://{name.as_posix()[found.end() :]}" if found else None


def fetch(url: str, path: Path, console: Console) -> None:
    """Fetch a recording to `path`. Raises AudioError where the server refuses, or the connection is cut TRIES times."""
    for again in range(TRIES):
        try:
            _download(url, path, console)
        except urllib.error.HTTPError as error:
            if error.code not in _AGAIN or again == TRIES - 1:
                raise AudioError(f"{url} cannot be fetched: the server answers {error.code} {error.reason}.") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, ValueError) or again == TRIES - 1:
                raise AudioError(
                    f"{url} cannot be fetched: {getattr(error, 'reason', None) or error}. Look whether the address is right."
                ) from error
        else:
            return
        time.sleep(REST_SECONDS * 2**again)


def _download(url: str, path: Path, console: Console) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "hvisk"})
    with (
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response,
        path.open("wb") as file,
        Bar(console, f"fetching {url}") as bar,
    ):
        total, done = int(response.headers.get("Content-Length") or 0), 0
        while block := response.read(_BLOCK):
            file.write(block)
            done += len(block)
            if total:
                bar.update(done, total, f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")
        if done < total:
            raise http.client.IncompleteRead(b"", total - done)
