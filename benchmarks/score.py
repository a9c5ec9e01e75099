"""What scoring costs: python benchmarks/score.py [--smoke]

20,000 made-up utterances of 500 speakers, about one word in six wrong. Claims: `counts`, the edits of each utterance, beside a
loop over jiwer's process_words on the same pairs, which counts words alone where we count characters too; both are given
normalised text. `bootstrap`, from raw pairs to rates with intervals from 1000 draws of speakers, normalising included, beside
jiwer.wer on the clips of each draw, normalised once: `peer_draws` draws are timed and scaled to 1000. `by_counts` is the
ratio to a stronger peer, timed once, that takes jiwer's counts once and sums those of the clips of each draw.
"""

import os
import random
import sys
import time
from itertools import chain

import jiwer

from _record import claim, paired, write
from hvisk import intervals, metrics, text

LETTERS = "eeeeernnttaaiiddssllggooommkkffvvuubhpåæøjyc"  # about as often as in Danish
Pairs = list[tuple[str, str]]


def utterances(count: int) -> tuple[Pairs, list[str]]:
    """Raw pairs with capitals and full stops, and the speaker of each."""
    rng = random.Random(0)
    vocabulary = ["i", "å", "ø"] + ["".join(rng.choices(LETTERS, k=rng.randrange(2, 11))) for _ in range(5000)]
    pairs = []
    for _ in range(count):
        reference = rng.choices(vocabulary, k=rng.randrange(4, 20))
        heard = [rng.choice(vocabulary) if rng.random() < 0.12 else word for word in reference if rng.random() > 0.04]
        pairs.append((" ".join(reference).capitalize() + ".", " ".join(heard)))
    return pairs, [f"speaker {rng.randrange(max(2, count // 40))}" for _ in range(count)]


def by_speaker(speakers: list[str]) -> list[list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(speakers):
        rows.setdefault(name, []).append(row)
    return list(rows.values())


def main() -> None:
    smoke = "--smoke" in sys.argv
    count, peer_draws, rounds = (2000, 3, 3) if smoke else (20_000, 3, 5)
    pairs, speakers = utterances(count)
    plain = [(text.normalise(reference), text.normalise(hypothesis)) for reference, hypothesis in pairs]
    rows = by_speaker(speakers)

    def draws(number: int) -> list[list[int]]:
        rng = random.Random(1)
        return [list(chain.from_iterable(rng.choices(rows, k=len(rows)))) for _ in range(number)]

    def scored() -> metrics.Score:
        return metrics.score([metrics.count(*pair) for pair in pairs], speakers)

    def recounted() -> list[float]:
        return [jiwer.wer([plain[n][0] for n in drawn], [plain[n][1] for n in drawn]) for drawn in draws(peer_draws)]

    def summed() -> list[float]:
        found = [jiwer.process_words(*pair) for pair in plain]
        wrong = [f.substitutions + f.deletions + f.insertions for f in found]
        words = [f.hits + f.substitutions + f.deletions for f in found]
        return [sum(wrong[n] for n in drawn) / sum(words[n] for n in drawn) for drawn in draws(intervals.DRAWS)]

    # Both sides must have found the same before it matters how quickly.
    ours, theirs = scored(), jiwer.process_words(*map(list, zip(*plain, strict=True)))
    assert ours.hits == theirs.hits
    assert ours.wer == theirs.wer

    counts = paired(
        lambda: [metrics.count(*pair, str) for pair in plain],
        lambda: [jiwer.process_words(*pair) for pair in plain],
        rounds=rounds,
    )
    scale = intervals.DRAWS / peer_draws
    whole = [(ours, peer * scale) for ours, peer in paired(scored, recounted, rounds=rounds)]
    began = time.perf_counter()
    summed()
    by_counts = time.perf_counter() - began

    seconds = sorted(ours for ours, _ in whole)[len(whole) // 2]
    claims = {
        "counts": claim(
            counts, peer_name="jiwer.process_words, one pair a call", unit="utterances a second", amount=count
        ),
        "bootstrap": claim(
            whole, peer_name="jiwer.wer on the clips of each draw", unit="utterances a second", amount=count
        )
        | {
            "seconds": round(seconds, 3),
            "utterances": count,
            "draws": intervals.DRAWS,
            "peer_draws": peer_draws,
            "by_counts": round(by_counts / seconds, 2),
        },
    }
    # The hardware names the cores that this process may use: fewer than there are, where it is pinned to some.
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for one in claims.values():
        one["cores"] = {"allowed": allowed, "of_machine": os.cpu_count()}
    write("score", "smoke" if smoke else "full", claims, ["jiwer", "rapidfuzz", "numpy"])


if __name__ == "__main__":
    main()
