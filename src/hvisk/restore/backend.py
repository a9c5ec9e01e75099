"""Whoever can be asked to put punctuation and casing into texts, as the work sees it: a function from texts to answers.

What an answer says beyond capitals and marks is nobody's concern here: `words.read` believes no word of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hvisk.restore import rules


@dataclass(frozen=True)
class Request:
    """Texts that are asked of at once. before, after: what was said around them, "" where nothing is known of it."""

    texts: tuple[str, ...]
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Answers:
    """One answer a text, in their order; None where there is none, with the same reason for all of those.

    tokens_in, tokens_out: what a server counted, 0 where nobody counts.
    """

    texts: tuple[str | None, ...]
    tokens_in: int = 0
    tokens_out: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Backend:
    """One that is asked. kind: "endpoint", "tagger" or "rules"; settings: all that decides its answers, in JSON's types.

    at_once: requests that may be under way together. batch: texts in a request. remote: the host that the texts go to, ""
    for this machine. free: asking again costs nothing, so that answers are not kept. close: gives connections back.
    """

    kind: str
    settings: dict[str, Any]
    ask: Callable[[Request], Answers]
    at_once: int = 1
    batch: int = 1
    remote: str = ""
    free: bool = False
    about: dict[str, Any] = field(default_factory=dict)  # what else the record says of it, such as the prompt
    close: Callable[[], None] = lambda: None


def baseline() -> Backend:
    """The rules, which answer everything."""
    return Backend(
        kind="rules",
        settings={"kind": "rules", "version": rules.VERSION},
        ask=lambda request: Answers(tuple(rules.restore(text) for text in request.texts)),
        batch=256,
        free=True,
    )
