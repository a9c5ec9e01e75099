"""What the further processes of a run execute: python -m hvisk.train.follower RECIPE.json RANK SIZE RENDEZVOUS"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from hvisk.errors import HviskError
from hvisk.train import loop, processes
from hvisk.train import recipe as recipes
from hvisk.train.session import Session


def main(told: Path, rank: int, size: int, rendezvous: str) -> int:
    """Train as process `rank` of the recipe in `told`, in silence; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process hears them too, and says when to stop
    leader = os.getppid()
    recipe = recipes.resolve(json.loads(told.read_text(encoding="utf-8")), str(told))
    try:
        with processes.joined(rank, size, rendezvous) as crew:
            loop.follow(recipe, Console(quiet=True), crew, Session())
    except HviskError:
        return 1  # the first process met the same, and says so
    except RuntimeError:
        if _lives(leader):
            raise
        return 1  # the first process was killed: nobody is left to be told
    return 0


def _lives(leader: int) -> bool:
    """Whether the first process is there; one that is killed loses its connections a moment before it is gone."""
    for _ in range(50):
        if os.getppid() != leader:
            return False
        time.sleep(0.1)
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
