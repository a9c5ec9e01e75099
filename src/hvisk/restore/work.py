"""Texts asked of one backend after the other: what one leaves or spoils is the next one's, and nothing is asked of twice.

lines -> those that are finished already, out of the cache, or asked of in requests of neighbours -> one Outcome each
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from time import monotonic

from hvisk.restore import words
from hvisk.restore.backend import Answers, Backend, Request
from hvisk.restore.cache import Answer, Cache, key

LONGEST = 400  # words in a request; more are more than one request


@dataclass(frozen=True)
class Line:
    """A text and what was said around it, as far as that is known. group: lines of one group stand one after the other."""

    text: str
    before: str = ""
    after: str = ""
    group: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a line. by: a backend's kind, "source" for a text that was finished, "" for one that is as it was.

    rejected: of each backend that was asked in vain, its kind, what it answered and why that was not taken.
    """

    text: str
    by: str
    how: str
    rejected: tuple[tuple[str, str, str], ...] = ()


@dataclass
class State:
    """How far the work is, for those who look on. by: lines with an outcome, as in Outcome; rejected: answers not taken."""

    total: int
    by: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


def restore(
    lines: Sequence[Line],
    backends: Sequence[Backend],
    cache: Cache,
    on_progress: Callable[[State], None] | None = None,
) -> list[Outcome]:
    """Return one outcome a line, in their order; a line that no backend's answer restores stays as it is.

    Answers are kept in the cache as they come, so that the same call goes on after any interruption. Raises Unavailable
    where a backend answers nobody: the others are not asked in its place, which would make another corpus unseen.
    """
    state = State(total=len(lines))
    outcomes: dict[int, Outcome] = {}
    refused: dict[int, list[tuple[str, str, str]]] = {}

    def judge(backend: Backend, index: int, answer: Answer) -> None:
        verdict = words.read(lines[index].text, answer.text or "")
        reason = verdict.reason if answer.text else answer.reason
        if verdict.text:
            outcomes[index] = Outcome(verdict.text, backend.kind, verdict.how, tuple(refused.get(index, ())))
            state.by[backend.kind] += 1
        else:
            state.rejected += 1
            refused.setdefault(index, []).append((backend.kind, answer.text or "", reason))

    def show() -> None:
        if on_progress:
            on_progress(state)

    for index, line in enumerate(lines):
        if words.finished(line.text):
            outcomes[index] = Outcome(line.text, "source", "finished")
            state.by["source"] += 1
    for backend in backends:
        keys = {i: _key(backend, lines[i]) for i in range(len(lines)) if i not in outcomes}
        known = {} if backend.free else cache.find(list(keys.values()))
        for index in [i for i in keys if keys[i] in known]:
            judge(backend, index, known[keys[index]])
        show()
        missing = [i for i in keys if keys[i] not in known]
        for batch, answers, took in _ask(backend, requests(lines, missing, backend.batch), lines):
            rows = [
                (i, Answer(text, "" if text else answers.reason, took / len(batch)))
                for i, text in zip(batch, answers.texts, strict=True)
            ]
            if not backend.free:
                cache.keep([(keys[i], answer) for i, answer in rows])
            for index, answer in rows:
                judge(backend, index, answer)
            state.tokens_in += answers.tokens_in
            state.tokens_out += answers.tokens_out
            show()
    for index, line in enumerate(lines):
        if index not in outcomes:
            outcomes[index] = Outcome(line.text, "", "as it was", tuple(refused.get(index, ())))
            state.by[""] += 1
    show()
    return [outcomes[index] for index in range(len(lines))]


def requests(lines: Sequence[Line], indices: Sequence[int], batch: int) -> list[list[int]]:
    """Return the lines that are asked of together: neighbours of one group, so that each is there for the others to see."""
    found: list[list[int]] = []
    size = 0
    for index in indices:
        length = len(lines[index].text.split())
        neighbour = bool(found) and found[-1][-1] == index - 1 and lines[index - 1].group == lines[index].group
        if neighbour and len(found[-1]) < batch and size + length <= LONGEST:
            found[-1].append(index)
            size += length
        else:
            found.append([index])
            size = length
    return found


def unknown(lines: Sequence[Line], backend: Backend, cache: Cache) -> tuple[list[int], float]:
    """Return the lines that the backend is yet to be asked of, and the seconds that one took so far, 0 if none did."""
    keys = {i: _key(backend, line) for i, line in enumerate(lines) if not words.finished(line.text)}
    known: Mapping[str, Answer] = {} if backend.free else cache.find(list(keys.values()))
    took = [answer.seconds for answer in known.values()]
    return [i for i in keys if keys[i] not in known], sum(took) / len(took) if took else 0.0


def _key(backend: Backend, line: Line) -> str:
    return key(backend.settings, line.text, line.before, line.after)


def _ask(
    backend: Backend, batches: Sequence[list[int]], lines: Sequence[Line]
) -> Iterator[tuple[list[int], Answers, float]]:
    """Ask of all batches, the first one alone, and yield each with its answers and seconds as they come.

    Only so many are under way as the backend takes at once, so that an interruption loses no more than those.
    """

    def ask(batch: list[int]) -> tuple[list[int], Answers, float]:
        began = monotonic()
        texts = tuple(lines[i].text for i in batch)
        answers = backend.ask(Request(texts, lines[batch[0]].before, lines[batch[-1]].after))
        return batch, answers, monotonic() - began

    queue = iter(batches)
    for batch in queue:  # what a server takes is found out by one request
        yield ask(batch)
        break
    with ThreadPoolExecutor(max(1, backend.at_once)) as pool:
        under_way: set[Future[tuple[list[int], Answers, float]]] = set()
        failure: BaseException | None = None
        while True:
            if failure is None:
                for batch in itertools.islice(queue, backend.at_once - len(under_way)):
                    under_way.add(pool.submit(ask, batch))
            if not under_way:
                break
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                if error := future.exception():
                    failure = failure or error  # what else is under way is paid for, and kept
                else:
                    yield future.result()
        if failure is not None:
            raise failure
