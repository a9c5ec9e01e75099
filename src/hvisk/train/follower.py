"""What the further processes of a run execute: python -m hvisk.train.follower RECIPE.json RANK RENDEZVOUS"""

import json
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from hvisk.errors import HviskError
from hvisk.train import loop, processes
from hvisk.train import recipe as recipes


def main(told: Path, rank: int, rendezvous: Path) -> int:
    """Train as process `rank` of the recipe in `told`, in silence; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process hears them too, and says when to stop
    leader = os.getppid()
    recipe = recipes.resolve(json.loads(told.read_text(encoding="utf-8")), str(told))
    try:
        with processes.joined(rank, recipe.processes, rendezvous) as crew:
            loop.follow(recipe, Console(quiet=True), crew)
    except HviskError:
        return 1  # the first process met the same, and says so
    except RuntimeError:
        if os.getppid() == leader:
            raise
        return 1  # the first process was killed: nobody is left to be told
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
