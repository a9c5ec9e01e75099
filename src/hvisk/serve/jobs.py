"""The job table, which is the queue too: each change one transaction, so that a kill at any instant loses nothing.

    add -> queued -> claim -> running -> report ... -> done | failed
                       ^         |
                       '- requeue, retry               cancel: from queued or running

A job belongs to the server whose disk has its sound; only that server's workers claim it. A claim is a word that only its
worker knows: whoever lost it (to a cancel, a retry, a restart) can no longer write, so that a job ends exactly once.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Engine, RowMapping, and_, case, delete, func, insert, or_, select, update

from hvisk.serve.database import jobs, overwrite, segments, transcripts

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
OPEN = ("queued", "running")

SMALL_BYTES = 2 << 20  # a minute of 16-bit WAV at 16 kHz, some minutes of anything else: goes before longer ones
MAX_CRASHES = 3
API_SECONDS = 900.0  # for which an API client that lost its connection can ask for its result again

Job = RowMapping


@dataclass(frozen=True)
class New:
    """A job to be added. id: what the upload was spooled as."""

    id: str
    source: Literal["page", "api"]
    client: str
    name: str
    size: int
    options: Mapping[str, Any]
    fingerprint: str | None = None


@dataclass(frozen=True)
class Report:
    """What a worker found in one turn of a job. first: the number of the first of `found`. seconds: of the recording."""

    job: str
    claim: str
    first: int
    found: Sequence[Mapping[str, Any]]
    heard: float
    seconds: float | None
    state: Literal["running", "done", "failed"] = "running"
    error: str | None = None
    warning: str | None = None


@dataclass(frozen=True)
class Jobs:
    """The jobs of `server` in a database; reading shows those of the others too."""

    engine: Engine
    server: str

    @property
    def _reading(self) -> Engine:
        return self.engine.execution_options(reading=True)

    def add(self, new: Sequence[New], open_at_most: int) -> bool:
        """Accept all of these jobs of one client, or none where it would have more than `open_at_most` open ones."""
        now = time.time()
        with self.engine.begin() as connection:
            waiting = select(func.count()).where(
                jobs.c.server == self.server, jobs.c.state.in_(OPEN), jobs.c.client == new[0].client
            )
            if connection.execute(waiting).scalar_one() + len(new) > open_at_most:
                return False
            connection.execute(
                insert(jobs),
                [
                    {
                        "id": job.id,
                        "server": self.server,
                        "source": job.source,
                        "client": job.client,
                        "name": job.name,
                        "size": job.size,
                        "fingerprint": job.fingerprint,
                        "options": dict(job.options),
                        "state": "queued",
                        "lane": int(job.size > SMALL_BYTES),
                        "created": now + number * 1e-6,  # pages of a list are cut between two of them
                        "audio": True,
                    }
                    for number, job in enumerate(new)
                ],
            )
        return True

    def again(self, fingerprint: str) -> str | None:
        """Return the newest job with this fingerprint that has not failed: the one that a client asks for once more."""
        query = (
            select(jobs.c.id)
            .where(jobs.c.fingerprint == fingerprint, jobs.c.state.in_((*OPEN, "done")))
            .order_by(jobs.c.created.desc())
        )
        with self._reading.connect() as connection:
            return connection.execute(query).scalars().first()

    def claim(self, worker: str, small: int, large: int, idle: bool = True) -> list[Job]:
        """Take up to so many small and large jobs, the oldest first.

        One that a worker died with is taken alone, when it is the oldest of all. idle: the worker has nothing in hand.
        """
        with self.engine.begin() as connection:
            mine = and_(jobs.c.server == self.server, jobs.c.state == "queued")

            def oldest(most: int, *conditions: ColumnElement[bool]) -> list[str]:
                query = select(jobs.c.id).where(mine, *conditions).order_by(jobs.c.created).limit(most)
                return list(connection.execute(query.with_for_update(skip_locked=True)).scalars())

            suspect = jobs.c.crashes > 0
            alone = oldest(1, suspect) if idle else []
            if alone and oldest(1) == alone:
                ids = alone
            else:
                ids = oldest(small, jobs.c.lane == 0, ~suspect) + oldest(large, jobs.c.lane == 1, ~suspect)
            if not ids:
                return []
            values = {
                "state": "running",
                "worker": worker,
                "claim": secrets.token_hex(8),
                "started": time.time(),
                "attempt": jobs.c.attempt + 1,
            }
            connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(values))
            return list(connection.execute(select(jobs).where(jobs.c.id.in_(ids)).order_by(jobs.c.created)).mappings())

    def report(self, reports: Sequence[Report], keep_audio: bool) -> list[bool]:
        """Write down what a turn found; False for each job that is no longer its worker's."""
        now = time.time()
        owned = []
        with self.engine.begin() as connection:
            for report in reports:
                values: dict[str, Any] = {"heard": report.heard, "seconds": report.seconds}
                if report.state != "running":
                    values |= {"state": report.state, "finished": now, "claim": None}
                    values |= {"error": report.error, "warning": report.warning}
                    if not keep_audio:
                        values["audio"] = False
                    else:  # what came by the API is not listened to, nor corrected
                        values["audio"] = jobs.c.source != "api"
                held = and_(jobs.c.id == report.job, jobs.c.claim == report.claim, jobs.c.state == "running")
                owned.append(connection.execute(update(jobs).where(held).values(values)).rowcount == 1)
                if owned[-1] and report.found:
                    rows = enumerate(report.found, start=report.first)
                    connection.execute(
                        insert(segments), [{"job": report.job, "number": n, "data": dict(data)} for n, data in rows]
                    )
        return owned

    def requeue(self, worker: str | None = None, crashed: bool = True) -> list[str]:
        """Queue again what `worker` had, or, as a server begins, what any worker had; return the ids.

        crashed: the worker died. A job that MAX_CRASHES workers died with has failed.
        """
        held = and_(jobs.c.server == self.server, jobs.c.state == "running")
        if worker is not None:
            held = and_(held, jobs.c.worker == worker)
        with self.engine.begin() as connection:
            ids = list(connection.execute(select(jobs.c.id).where(held)).scalars())
            if not ids:
                return []
            connection.execute(delete(segments).where(segments.c.job.in_(ids)))
            crashes = jobs.c.crashes + int(worker is not None and crashed)
            lost = crashes >= MAX_CRASHES
            message = f"The recogniser broke down {MAX_CRASHES} times over this file. Convert it to WAV and try again."
            connection.execute(
                update(jobs)
                .where(jobs.c.id.in_(ids))
                .values(
                    state=case((lost, "failed"), else_="queued"),
                    error=case((lost, message), else_=None),
                    finished=case((lost, time.time()), else_=None),
                    crashes=crashes,
                    claim=None,
                    heard=0.0,
                )
            )
            return ids

    def cancel(self, job: str) -> bool:
        """End a job that has not ended; False for one that has, or is unknown."""
        where = and_(jobs.c.id == job, jobs.c.state.in_(OPEN))
        values = {"state": "cancelled", "claim": None, "finished": time.time()}
        with self.engine.begin() as connection:
            return connection.execute(update(jobs).where(where).values(values)).rowcount == 1

    def retry(self, job: str) -> bool:
        """Queue a failed or cancelled job again; False where it is neither, or its sound is gone."""
        where = and_(jobs.c.id == job, jobs.c.state.in_(("failed", "cancelled")), jobs.c.audio)
        values: dict[str, Any] = {"state": "queued", "error": None, "finished": None, "crashes": 0, "heard": 0.0}
        with self.engine.begin() as connection:
            if connection.execute(update(jobs).where(where).values(values)).rowcount != 1:
                return False
            connection.execute(delete(segments).where(segments.c.job == job))
        return True

    def delete(self, job: str) -> bool:
        """Forget a job and its transcript, whatever its state; False for one that is unknown. The sound is the caller's."""
        with self.engine.begin() as connection:
            return connection.execute(delete(jobs).where(jobs.c.id == job)).rowcount == 1

    def answered(self, job: str) -> None:
        """Note that an API client has its result."""
        with self.engine.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(answered=time.time()))

    def get(self, job: str) -> Job | None:
        with self._reading.connect() as connection:
            return connection.execute(select(jobs).where(jobs.c.id == job)).mappings().first()

    def listed(self, *, state: str | None = None, before: float | None = None, limit: int = 100) -> list[Job]:
        """Return the page's jobs, the newest first; before: only those that are older than this time."""
        query = select(jobs).where(jobs.c.source == "page")
        if state:
            query = query.where(jobs.c.state == state)
        if before is not None:
            query = query.where(jobs.c.created < before)
        with self._reading.connect() as connection:
            return list(
                connection.execute(query.order_by(jobs.c.created.desc(), jobs.c.id).limit(limit)).mappings().all()
            )

    def ahead(self) -> dict[str, int]:
        """Return for each queued job how many are claimed before it."""
        place = func.row_number().over(partition_by=jobs.c.server, order_by=(jobs.c.lane, jobs.c.created))
        query = select(jobs.c.id, place).where(jobs.c.state == "queued")
        with self._reading.connect() as connection:
            return {job: number - 1 for job, number in connection.execute(query)}

    def segments(self, job: str, start: int = 0) -> list[dict[str, Any]]:
        """Return what was recognised, from the number `start` on, in order."""
        query = select(segments.c.data).where(segments.c.job == job, segments.c.number >= start)
        with self._reading.connect() as connection:
            return list(connection.execute(query.order_by(segments.c.number)).scalars())

    def edited(self, job: str) -> tuple[int, float, dict[str, Any]] | None:
        """Return version, time and content of what was made of a transcript; None for one as it was recognised."""
        query = select(transcripts.c.version, transcripts.c.saved, transcripts.c.data).where(transcripts.c.job == job)
        with self._reading.connect() as connection:
            row = connection.execute(query).first()
        return (row[0], row[1], row[2]) if row else None

    def edit(self, job: str, version: int, data: Mapping[str, Any]) -> tuple[bool, int]:
        """Replace version `version` (1 is the recognised one) by the next, unless another was faster.

        Return whether it was replaced, and which version is there now: 0 where the job is deleted.
        """
        now = time.time()
        with self.engine.begin() as connection:
            # The job's row is there before the transcript's is: two that save for the first time wait here for each other.
            if connection.execute(select(jobs.c.id).where(jobs.c.id == job).with_for_update()).first() is None:
                return False, 0
            query = select(transcripts.c.version).where(transcripts.c.job == job)
            current = connection.execute(query).scalar_one_or_none()
            if (current or 1) != version:
                return False, current or 1
            values = {"version": version + 1, "saved": now, "data": dict(data)}
            if current is None:
                connection.execute(insert(transcripts).values(job=job, **values))
            else:
                connection.execute(update(transcripts).where(transcripts.c.job == job).values(values))
        return True, version + 1

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are of each source and state."""
        query = select(jobs.c.source, jobs.c.state, func.count()).group_by(jobs.c.source, jobs.c.state)
        with self._reading.connect() as connection:
            return {(source, state): number for source, state, number in connection.execute(query)}

    def with_audio(self) -> set[str]:
        """Return the ids of this server's jobs whose sound is kept."""
        with self._reading.connect() as connection:
            query = select(jobs.c.id).where(jobs.c.server == self.server, jobs.c.audio)
            return set(connection.execute(query).scalars())

    def expire(self, keep_audio: float, keep_transcripts: float, forget: bool) -> tuple[list[str], list[str]]:
        """Delete jobs whose time is over; return the ids of this server's whose sound goes, and of all that are gone."""
        now = time.time()
        ended = and_(jobs.c.server == self.server, jobs.c.state.in_(ENDED))
        mute = and_(ended, jobs.c.audio, jobs.c.finished <= now - keep_audio)
        old = and_(jobs.c.source == "page", jobs.c.finished <= now - keep_transcripts)
        given = and_(jobs.c.source == "api", jobs.c.finished <= now - min(API_SECONDS, keep_transcripts))
        if forget:
            given = and_(jobs.c.source == "api", or_(given, jobs.c.answered.is_not(None)))
        with self.engine.begin() as connection:
            gone = list(connection.execute(select(jobs.c.id).where(ended, or_(old, given))).scalars())
            muted = list(connection.execute(select(jobs.c.id).where(mute)).scalars())
            connection.execute(update(jobs).where(jobs.c.id.in_(muted)).values(audio=False))
            connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
        overwrite(self.engine)
        return [*muted, *gone], gone
