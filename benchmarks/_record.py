"""What every benchmark leaves: one JSON object, printed as the last line and written to results/NAME.json."""

import importlib.metadata
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hvisk import doctor, files

RESULTS = Path(__file__).parent / "results"


def paired(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int) -> list[tuple[float, float]]:
    """Time both in turn, `rounds` times after one warm-up each: seconds of (ours, peer) in each round."""
    ours(), peer()
    found = []
    for _ in range(rounds):
        times = []
        for call in (ours, peer):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        found.append((times[0], times[1]))
    return found


def claim(times: Sequence[tuple[float, float]], *, peer_name: str, unit: str, amount: float = 1.0) -> dict[str, Any]:
    """Return the entry of one claim: medians of `amount` a second, their ratio (above 1: ours is faster), and its range."""
    ratios = sorted(peer / ours for ours, peer in times)
    return {
        "ours": round(amount / statistics.median(ours for ours, _ in times), 3),
        "peer": round(amount / statistics.median(peer for _, peer in times), 3),
        "peer_name": peer_name,
        "unit": unit,
        "ratio": round(statistics.median(ratios), 2),
        "spread": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


def write(name: str, mode: str, claims: dict[str, Any], packages: Sequence[str]) -> None:
    record = {
        "name": name,
        "mode": mode,
        "hardware": doctor.hardware(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "claims": claims,
    }
    files.write_json(RESULTS / f"{name}.json", record)
    print(json.dumps(record, ensure_ascii=False))
