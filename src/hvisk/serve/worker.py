"""A worker: a process of its own that holds the model, takes jobs from the table and writes down what it hears.

    python -m hvisk.serve.worker     reads its settings as the first line of stdin, then "work" lines; the end of stdin
                                     ends it, so that no worker outlives its server
    stdout                           a JSON object a line: ready, a model that cannot be loaded, a turn's jobs
    exit code NO_DATABASE            the database is away; what it had in hand is queued again, without blame

A file that breaks the decoder breaks this process alone. Its server queues the jobs again and starts another.
"""

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy.exc import InterfaceError, OperationalError

from hvisk import models
from hvisk.errors import AudioError, HviskError
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.guards import Guards
from hvisk.serve import chapters
from hvisk.serve.chapters import Options, Recording
from hvisk.serve.database import NO_DATABASE, connect
from hvisk.serve.jobs import Job, Jobs, Report
from hvisk.serve.observe import log
from hvisk.serve.settings import Settings

SMALL_AT_ONCE = 24
LARGE_AT_ONCE = 1
TURN_SECONDS = 300.0  # of sound in a turn, about
LOOK_SECONDS = 5.0  # between looks at the table where nobody calls


@dataclass
class Taken:
    """A job in hand."""

    job: Job
    recording: Recording


def main() -> None:
    """Work until stdin ends."""
    settings = Settings.from_json(sys.stdin.readline())
    server, worker = sys.stdin.readline().split()
    for sign in (signal.SIGINT, signal.SIGTERM):  # a terminal and systemd signal the whole group; the server decides
        signal.signal(sign, signal.SIG_IGN)
    called, over = threading.Event(), threading.Event()
    threading.Thread(target=_listen, args=(called, over), daemon=True).start()
    os.environ["HF_HUB_OFFLINE"] = "1"  # a service asks nobody: a Hub id is served where it has been fetched before
    try:
        recogniser = Recogniser.load(models.recognisable(settings.model), threads=settings.threads)
    except HviskError as error:
        _say(failed=str(error))
        sys.exit(1)
    try:
        jobs = Jobs(connect(settings.url), server)
    except HviskError:
        _without_database()
    _say(
        ready=True,
        languages=recogniser.tokens.languages(),
        styles=list(recogniser.about.get("styles", {})),
        prompts=recogniser.takes_prompts,
        directory=str(recogniser.directory),
    )
    guards = Guards() if settings.guards else None
    taken: list[Taken] = []
    try:
        while not over.is_set():
            called.clear()
            new = claimed(jobs, worker, taken)
            if new:
                _say(took=[job["id"] for job in new])
            turn(jobs, recogniser, guards, settings, new, taken)
            if not taken:
                called.wait(LOOK_SECONDS)
        jobs.requeue(worker, crashed=False)
    except (OperationalError, InterfaceError):  # others are errors in what was to be written: the file's
        _without_database()


def claimed(jobs: Jobs, worker: str, taken: list[Taken]) -> list[Job]:
    """Claim what there is room for besides `taken`; nothing beside a job that a worker died with."""
    if any(item.job["crashes"] for item in taken):
        return []
    large = sum(item.job["lane"] for item in taken)
    return jobs.claim(worker, SMALL_AT_ONCE - (len(taken) - large), LARGE_AT_ONCE - large, idle=not taken)


def turn(
    jobs: Jobs, recogniser: Recogniser, guards: Guards | None, settings: Settings, new: list[Job], taken: list[Taken]
) -> None:
    """Hear a chapter of all jobs in hand and of `new`, and report; `taken` are those that are in hand afterwards."""
    reports: list[Report] = []
    for job in new:
        try:
            taken.append(Taken(job, opened(job, recogniser, settings)))
        except HviskError as error:
            reports.append(Report(job["id"], job["claim"], 0, [], 0.0, None, "failed", str(error)))
    # Those that nobody has heard of yet go first; of the others the one that has waited longest.
    taken.sort(key=lambda item: item.recording.begun)
    by_recording = {id(item.recording): item for item in taken}
    for recording, found in chapters.turn(recogniser, [item.recording for item in taken], guards, TURN_SECONDS):
        item = by_recording[id(recording)]
        job, claim = item.job["id"], item.job["claim"]
        taken.remove(item)
        if isinstance(found, AudioError):
            reports.append(Report(job, claim, recording.found, [], recording.done, None, "failed", str(found)))
            continue
        state: Any = "done" if recording.ended else "running"
        length = recording.done if recording.ended else recording.declared
        warning = recording.damage or None
        reports.append(Report(job, claim, recording.found, found, recording.done, length, state, None, warning))
        recording.found += len(found)
        if not recording.ended:
            taken.append(item)
    if not reports:
        return
    owned = jobs.report(reports, settings.keep_audio > 0)
    lost = {report.job for report, mine in zip(reports, owned, strict=True) if not mine}
    taken[:] = [item for item in taken if item.job["id"] not in lost]
    sources = {job["id"]: job["source"] for job in (*new, *(item.job for item in by_recording.values()))}
    for report in reports:
        ended = report.state != "running" and report.job not in lost
        if ended and (settings.keep_audio <= 0 or sources[report.job] == "api"):
            (settings.audio / report.job).unlink(missing_ok=True)
    _say(
        turn=[[report.job, report.state] for report in reports if report.job not in lost],
        heard=sum(report.heard for report in reports if report.state == "done"),
        left=len(taken),
    )


def opened(job: Job, recogniser: Recogniser, settings: Settings) -> Recording:
    """Open the sound of a job. Raises AudioError for none, HviskError for what is asked of the model in vain."""
    options = Options.of(job["options"])
    options.tuned(recogniser)
    return Recording(Path(settings.audio) / job["id"], job["name"], options, settings.limits.audio_seconds)


def _listen(called: threading.Event, over: threading.Event) -> None:
    # Not sys.stdin, whose lock a thread that waits in it would keep while the interpreter ends.
    while os.read(sys.stdin.fileno(), 4096):
        called.set()
    over.set()
    called.set()


def _without_database() -> NoReturn:
    log("database away")
    sys.exit(NO_DATABASE)


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
