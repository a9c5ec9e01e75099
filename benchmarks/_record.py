"""What every benchmark leaves: one JSON object, printed as the last line and written to results/NAME.json."""

import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hvisk import doctor, files, intervals, metrics

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


def fewer(
    ours: Sequence[metrics.Counts], peer: Sequence[metrics.Counts], blocks: Sequence[str], *, peer_name: str
) -> dict[str, Any]:
    """Return the entry of a claim of fewer errors: WER of both on the same clips, the ratio of the errors, and its 95 %
    interval over `blocks`, whose clip each is.
    """
    mine, theirs = ([c.errors for c in side] for side in (ours, peer))
    spread = intervals.interval(theirs, mine, blocks)
    return {
        "ours": rate(ours),
        "peer": rate(peer),
        "peer_name": peer_name,
        "unit": "WER, %: lower is better",
        "ratio": round(sum(theirs) / sum(mine), 2),
        "spread": [round(end, 2) for end in spread] if spread else None,
    }


def rate(counts: Sequence[metrics.Counts]) -> float:
    """Return the WER of clips in %."""
    return round(100 * sum(c.errors for c in counts) / sum(c.words for c in counts), 2)


def asked(name: str, claims: Iterable[str]) -> tuple[str, list[str], dict[str, Any]]:
    """Read `[--smoke] [CLAIM ...]`: the mode, the claims to measure, and what the record has of the others.

    A claim that is measured again takes the place of the one before, whatever the others' form is; those others say on
    which machine they were measured.
    """
    known = list(claims)
    named = [word for word in sys.argv[1:] if not word.startswith("-")]
    if unknown := set(named) - set(known):
        raise SystemExit(f"There is no claim {', '.join(sorted(unknown))}. Accepted: {', '.join(known)}.")
    kept = RESULTS / f"{name}.json"
    record = files.read_json(kept) if named and kept.exists() else {"claims": {}, "hardware": ""}
    found = {claim: {"hardware": record["hardware"], **one} for claim, one in record["claims"].items()}
    return "smoke" if "--smoke" in sys.argv else "full", named or known, found


def keep(name: str, claims: dict[str, Any], packages: Sequence[str]) -> dict[str, Any]:
    """Write the record as it is so far and return it; it is a full one if all of its claims are."""
    whole = all(one["mode"] == "full" for one in claims.values())
    return _written(name, "full" if whole else "smoke", claims, packages)


def write(name: str, mode: str, claims: dict[str, Any], packages: Sequence[str]) -> None:
    """Write the record, and print it as the last line."""
    print(json.dumps(_written(name, mode, claims, packages), ensure_ascii=False))


def _written(name: str, mode: str, claims: dict[str, Any], packages: Sequence[str]) -> dict[str, Any]:
    record = {
        "name": name,
        "mode": mode,
        "hardware": doctor.hardware(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "claims": claims,
    }
    files.write_json(RESULTS / f"{name}.json", record)
    return record
