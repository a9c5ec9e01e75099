"""What the routes share: the parts of a running service, and what happens to a job outside of its worker."""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends
from starlette.requests import Request

from hvisk import files
from hvisk.errors import HviskError
from hvisk.recogniser.expected import listed
from hvisk.serve.crew import Crew
from hvisk.serve.database import connect
from hvisk.serve.events import Signals, changed
from hvisk.serve.jobs import ENDED, Job, Jobs, New
from hvisk.serve.observe import Metrics, log
from hvisk.serve.problems import Problem
from hvisk.serve.settings import Settings
from hvisk.serve.uploads import Form, Upload

SWEEP_SECONDS = 20.0
LANGUAGE = "^[a-z]{2,3}$"  # a code of one, as Whisper has them

T = TypeVar("T")


@dataclass
class Service:
    """A running service. lock: held open as long as the folder is ours."""

    settings: Settings
    jobs: Jobs
    signals: Signals
    metrics: Metrics
    crew: Crew
    lock: Any

    async def submit(
        self,
        form: Form,
        uploads: Sequence[Upload],
        source: Literal["page", "api"],
        client: str,
        options: Mapping[str, Any],
    ) -> list[str]:
        """Make jobs of uploads, all or none; return their ids. Raises Problem where the client has too many open ones."""
        new = [
            New(
                file.id,
                source,
                client,
                file.name,
                file.size,
                options,
                fingerprint(file, options) if source == "api" else None,
            )
            for file in uploads
        ]
        if not await asyncio.to_thread(self.jobs.add, new, self.settings.limits.client_jobs):
            raise Problem(
                429,
                f"There are {self.settings.limits.client_jobs} open jobs from {client}. Wait until some have ended.",
                code="too_many_jobs",
                seconds=10,
            )
        form.kept.update(file.id for file in uploads)
        self.metrics.uploaded.inc(sum(file.size for file in uploads))
        for file in uploads:
            self.signals.notify(file.id)
        self.crew.call()
        return [file.id for file in uploads]

    async def ended(self, job: str) -> Job:
        """Return a job when it has ended. Raises Problem where it is deleted meanwhile, or the server ends first."""
        with self.signals.watching(job) as event:
            while True:
                found = await asyncio.to_thread(self.jobs.get, job)
                if found is None:
                    raise Problem(410, "The job was deleted.", code="deleted")
                if found["state"] in ENDED:
                    return found
                if self.signals.closing:
                    raise Problem(
                        503, "The service is ending. The job goes on when it is back.", code="ending", seconds=5
                    )
                await changed(event)

    def spoken(self, codes: Sequence[str]) -> str:
        """Return the first of these language codes that the model knows, or the service's own where all are empty.

        Raises Problem for what is no code, and where the model knows none of them.
        """
        known = self.crew.model.get("languages")
        given = [code for code in codes if code]
        for code in given:
            if not re.fullmatch(LANGUAGE, code):
                raise Problem(400, f"'{code[:20]}' is no language code, such as 'da'.", param="language")
        possible = [code for code in given if known is None or code in known]
        if given and not possible:
            raise Problem(
                400, f"The model knows {', '.join(known or ())}, not {', '.join(given[:9])}.", param="language"
            )
        return (possible or [self.settings.language])[0]

    def expected(self, words: Sequence[str]) -> dict[str, list[str]]:
        """Return the job's option that names words to expect, or none. Raises Problem for what is no word."""
        try:
            found = listed(words)
        except HviskError as error:
            raise Problem(400, str(error), param="keywords") from None
        return {"keywords": list(found)} if found else {}

    def written(self, style: str) -> dict[str, str]:
        """Return the job's option that asks for a style, or none. Raises Problem for one that the model was not taught."""
        taught: list[str] | None = self.crew.model.get("styles")
        if style and taught is not None and style not in taught:
            raise Problem(
                400, f"The model was taught {', '.join(taught) or 'no styles'}, not '{style[:20]}'.", param="style"
            )
        return {"style": style} if style else {}

    async def change(self, done: Callable[[str], T], job: str) -> T:
        """Do something to a job, and tell those who watch it."""
        result = await asyncio.to_thread(done, job)
        self.signals.notify(job)
        self.crew.call()
        return result

    def remove(self, job: str) -> bool:
        """Delete a job, its transcript and its sound."""
        found = self.jobs.delete(job)
        (self.settings.audio / job).unlink(missing_ok=True)
        return found

    async def sweep(self) -> None:
        """Delete what is older than it may be, for ever."""
        settings = self.settings
        while True:
            try:
                mute, gone = await asyncio.to_thread(
                    self.jobs.expire, settings.keep_audio, settings.keep_transcripts, settings.forget
                )
                for job in mute:
                    (settings.audio / job).unlink(missing_ok=True)
                    self.signals.notify(job)
                if mute or gone:
                    log("expired", audio=len(mute), jobs=len(gone))
            except Exception as error:  # a database that is away for a minute comes back
                log("sweep failed", error=type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS)

    def close(self) -> None:
        """Let go of the database and the folder; forget what is to be forgotten."""
        self.jobs.engine.dispose()
        if self.settings.forget:
            shutil.rmtree(self.settings.data, ignore_errors=True)
        self.lock.close()


def begin(settings: Settings, broken: Callable[[str], None]) -> Service:
    """Take the folder over: jobs that a killed server left are queued again, sounds without a job are deleted.

    Raises HviskError where another server has the folder, or there is no database.
    """
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _locked(settings)
    if settings.forget:
        for path in settings.data.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    settings.audio.mkdir(exist_ok=True, mode=0o700)
    server = settings.data / "server"
    if not server.exists():
        files.write_text(server, secrets.token_hex(16))
    jobs = Jobs(connect(settings.url), server.read_text(encoding="utf-8"))
    again = jobs.requeue()
    known = jobs.with_audio()
    for path in settings.audio.iterdir():
        if path.name not in known:
            path.unlink()
    signals, metrics = Signals(), Metrics(jobs.counts)
    crew = Crew(settings, jobs, metrics, signals.notify, broken)
    log("begun", requeued=len(again))
    return Service(settings, jobs, signals, metrics, crew, lock)


def fingerprint(upload: Upload, options: Mapping[str, Any]) -> str:
    """Return what is the same for the same sound with the same options."""
    return hashlib.sha256(f"{upload.sha256} {sorted(options.items())}".encode()).hexdigest()


def service(request: Request) -> Service:
    """The service that a request came to."""
    found: Service = request.app.state.service
    return found


Here = Annotated[Service, Depends(service)]


def _locked(settings: Settings) -> Any:
    file = (settings.data / "lock").open("w")
    with contextlib.suppress(ImportError):  # Windows has no fcntl; there the folder's owner has to look out
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.close()
            raise HviskError(
                f"Another hvisk serve works on {settings.data}. End it, or give this one a folder of its own with --data."
            ) from error
    file.write(str(os.getpid()))
    file.flush()
    return file
