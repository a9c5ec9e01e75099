"""What was named on a command line -> sound files: files, folders, patterns, addresses, and the standard input."""

import contextlib
import glob
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from hvisk.errors import AudioError
from hvisk.recogniser.fetch import address, fetch

STDIN = Path("-")

# What is taken from a folder; a file that is named itself may be called whatever it likes.
SOUND = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".caf", ".amr", ".mka")
VIDEO = (".webm", ".mp4", ".mov", ".mkv", ".avi", ".mpeg", ".mpg")
SUFFIXES = frozenset((*SOUND, *VIDEO))


def expand(names: Sequence[Path]) -> list[Path]:
    """Return the files that `names` mean, in order: a folder's sound files, its folders' too, by name.

    A name that is no file but has *, ? or [ in it is a pattern, and ** goes through folders. "-" stays: the standard
    input; so does an address. What is neither stays too, and is reported when it is opened. Folders and patterns add no
    file twice. Raises AudioError for a folder or a pattern without any.
    """
    found: list[Path] = []
    for name in names:
        if name.is_dir():
            inside = sorted(path for path in name.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
            if not inside:
                raise AudioError(f"The folder {name} holds no sound files. Looked for: {', '.join(sorted(SUFFIXES))}.")
            found += [path for path in inside if path not in found]
        elif name != STDIN and not address(name) and not name.exists() and glob.has_magic(str(name)):
            matching = sorted(path for path in map(Path, _matching(name)) if path.is_file())
            if not matching:
                raise AudioError(
                    f"No file is called {name}. Give files, folders, patterns, or - for the standard input."
                )
            found += [path for path in matching if path not in found]
        else:
            found.append(name)
    return found


def _matching(pattern: Path) -> list[str]:
    return glob.glob(str(pattern), recursive=True)  # noqa: PTH207  (Path.glob takes no pattern from the root)


@contextlib.contextmanager
def opened(recording: Path, console: Console) -> Iterator[Path]:
    """Give the path of a recording; what comes from stdin or the network is a temporary file, for formats that seek."""
    url = address(recording)
    if recording != STDIN and url is None:
        yield recording
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        if url is not None:
            fetch(url, path, console)
            yield path
            return
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path
