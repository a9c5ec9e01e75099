"""The errors a user can meet, each a sentence that says what was given, what is accepted, and which command comes next.

    HviskError
    ├── AudioError      bytes or a file that hold no usable sound
    ├── CorpusError     a shard folder, manifest or source that cannot be read or written
    ├── RecipeError     a training recipe with an unknown key, a wrong type or an impossible value
    ├── ModelError      a model directory or Hub id that cannot be found, converted or trusted
    ├── MissingExtra    a package behind an extra of hvisk is not installed
    └── Unavailable     whoever is asked answers nothing at present, whatever it is asked

The command line prints the sentence and exits with 1; anything else that escapes is a bug in hvisk.
"""

import importlib.util


class HviskError(Exception):
    """Base of all errors that hvisk raises on purpose."""


class AudioError(HviskError):
    """Bytes or a file that hold no usable sound; the message names the file."""


class CorpusError(HviskError):
    """A shard folder, manifest or source that cannot be read or written."""


class RecipeError(HviskError):
    """A training recipe with an unknown key, a wrong type or an impossible value."""


class ModelError(HviskError):
    """A model directory or Hub id that cannot be found, converted or trusted."""


class MissingExtra(HviskError):  # noqa: N818  (it reads as the sentence that it is)
    """A package behind an extra of hvisk is not installed."""


class Unavailable(HviskError):  # noqa: N818  (it reads as the sentence that it is)
    """Whoever is asked answers nothing at present, whatever it is asked: no connection, a wrong key, no quota left."""


def require(package: str, extra: str, purpose: str) -> None:
    """Raise MissingExtra unless `package` can be imported; nothing is imported here.

    `extra` is the name in `pip install 'hvisk[extra]'`, `purpose` completes "... is needed to <purpose>".
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(
            f"The package '{package}' is needed to {purpose} and is not installed. Run: pip install 'hvisk[{extra}]'"
        )
