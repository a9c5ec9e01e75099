"""What a restoration will take, told before anybody is asked: texts, requests, tokens, money, time."""

from collections.abc import Sequence
from dataclasses import dataclass

from hvisk.errors import HviskError
from hvisk.restore import endpoint, words, work
from hvisk.restore.backend import Backend
from hvisk.restore.cache import Cache
from hvisk.restore.work import Line


@dataclass(frozen=True)
class Price:
    """US$ for a million tokens sent, and for a million received."""

    tokens_in: float
    tokens_out: float

    @staticmethod
    def parse(given: str) -> "Price | None":
        """Return the price in "0.15,0.6"; None for "". HviskError for anything else."""
        if not given:
            return None
        try:
            first, second = (float(part) for part in given.split(","))
        except ValueError as error:
            raise HviskError(
                f"--price {given} is no price. Accepted: US$ for a million tokens in and out, as --price 0.15,0.6"
            ) from error
        return Price(first, second)

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Return what so many tokens cost, in US$."""
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What the first backend will be asked. finished: texts that have punctuation and casing; known: answered before.

    tokens are about; cost is in US$, None without a price; seconds None where this backend has answered nothing yet.
    """

    texts: int
    finished: int
    known: int
    to_ask: int
    words: int
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    seconds: float | None

    def __str__(self) -> str:
        parts = [f"{self.texts:,} texts"]
        if self.finished:
            parts.append(f"{self.finished:,} have punctuation and casing already")
        if self.known:
            parts.append(f"{self.known:,} were answered before")
        parts.append(f"{self.to_ask:,} to ask of, {self.words:,} words")
        if self.tokens_in:
            parts.append(f"{self.requests:,} requests, about {self.tokens_in:,} tokens in and {self.tokens_out:,} out")
        if self.cost is not None:
            parts.append(f"about US$ {self.cost:,.2f}")
        if self.seconds is not None and self.to_ask:
            parts.append(f"about {duration(self.seconds)}")
        return "; ".join(parts)


def estimate(lines: Sequence[Line], backend: Backend, cache: Cache, price: Price | None = None) -> Estimate:
    """Return what it will take to have the first backend restore these lines."""
    missing, pace = work.unknown(lines, backend, cache)
    finished = sum(words.finished(line.text) for line in lines)
    asked = sum(len(lines[i].text.split()) for i in missing)
    requests = len(work.requests(lines, missing, backend.batch))
    tokens = endpoint.estimate(requests, len(missing), asked) if backend.kind == "endpoint" and missing else (0, 0)
    return Estimate(
        texts=len(lines),
        finished=finished,
        known=len(lines) - finished - len(missing),
        to_ask=len(missing),
        words=asked,
        requests=requests,
        tokens_in=tokens[0],
        tokens_out=tokens[1],
        cost=price.of(*tokens) if price and backend.kind == "endpoint" else None,
        seconds=pace * len(missing) / backend.at_once if pace else None,
    )


def duration(seconds: float) -> str:
    """Return a duration as "40 seconds", "12 minutes" or "3.4 hours"."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
