"""A file of predictions as a system: of hvisk or of any project whose files `hvisk.interchange` reads."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvisk import interchange
from hvisk.errors import HviskError
from hvisk.systems.system import System


def open_file(path: Path, name: str) -> System:
    """Open a file of predictions, or a directory of them. It can be evaluated on clips that it names, and hears nothing.

    Raises HviskError for what is not there, cannot be read, or names a clip twice.
    """
    known = {prediction.id: prediction for prediction in interchange.read(path)}

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        raise HviskError(f"{path} holds texts and recognises nothing: it can be evaluated on its own clips alone.")

    content = json.dumps(sorted((identifier, known[identifier].hypothesis) for identifier in known))
    return System(
        name=name,
        kind="predictions",
        recognise=recognise,
        settings={
            "model": name,
            "system": "predictions",
            "texts_sha256": hashlib.sha256(content.encode()).hexdigest(),
        },
        known=known,
    )
