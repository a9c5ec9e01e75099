"""The tables, and an engine for them: SQLite in WAL mode, or whatever SQLAlchemy's URL names.

jobs          a recording that was accepted, and how far it is
segments      what was recognised, in order; never changed afterwards
transcripts   what somebody made of it, with a version
"""

import contextlib
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from hvisk.errors import HviskError

BUSY_SECONDS = 30  # that a writer waits for another
NO_DATABASE = 2  # the exit code of a worker that lost the database: its files are not to blame

metadata = MetaData()

# Times are seconds since 1970, as time.time() has them.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("server", String(32), nullable=False),  # whose disk holds the sound
    Column("source", String(8), nullable=False),  # page, api
    Column("client", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("fingerprint", String(64)),  # of sound and options together: what a client that tries again sends again
    Column("options", JSON, nullable=False),
    Column("state", String(10), nullable=False),  # queued, running, done, failed, cancelled
    Column("lane", Integer, nullable=False),  # 0: small, goes first
    Column("worker", String(32)),
    Column("claim", String(32)),  # a word for each time that it is taken: who lost the job can write nothing
    Column("attempt", Integer, nullable=False, default=0),
    Column("crashes", Integer, nullable=False, default=0),  # workers that died with it
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("answered", Double),  # when an API client was given the result
    Column("seconds", Double),  # as the file declares, then as it was
    Column("heard", Double, nullable=False, default=0.0),  # seconds that are done
    Column("error", Text),
    Column("warning", Text),
    Column("audio", Boolean, nullable=False),  # the sound is still there
)
Index("jobs_waiting", jobs.c.server, jobs.c.state, jobs.c.lane, jobs.c.created)
Index("jobs_listed", jobs.c.source, jobs.c.created)
Index("jobs_again", jobs.c.fingerprint)

segments = Table(
    "segments",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", JSON, nullable=False),
)

transcripts = Table(
    "transcripts",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("saved", Double, nullable=False),
    Column("data", JSON, nullable=False),
)


def connect(url: str) -> Engine:
    """Return an engine whose tables exist. Raises HviskError for a URL that leads to no database."""
    try:
        sqlite = make_url(url).get_backend_name() == "sqlite"
        # What is deleted is overwritten, and a commit is on the disk: an accepted job survives a power cut too.
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON")
        arguments: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if sqlite else {"pool_pre_ping": True}
        # The parameters, which errors would print, are transcripts and file names.
        engine = create_engine(url, pool_size=8, max_overflow=32, hide_parameters=True, **arguments)
        if sqlite:

            @event.listens_for(engine, "connect")
            def prepare(connection: Any, _: Any) -> None:
                connection.isolation_level = None  # pysqlite's own BEGIN comes too late
                for pragma in pragmas:
                    connection.execute(f"PRAGMA {pragma}")

            @event.listens_for(engine, "begin")
            def begin(connection: Any) -> None:
                # A transaction that reads, then writes, would fail at once where another wrote in between.
                reading = connection.get_execution_options().get("reading", False)
                connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

        metadata.create_all(engine)
    except (ArgumentError, ImportError, SQLAlchemyError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise HviskError(
            f"The database cannot be opened: {reason}. Accepted is an URL of SQLAlchemy's, such as "
            "sqlite:////srv/hvisk/jobs.sqlite or postgresql+psycopg://user:password@host/name"
        ) from error
    return engine


def overwrite(engine: Engine) -> None:
    """Empty SQLite's log of changes, where deleted texts stay readable until then; other databases see to their own."""
    if engine.dialect.name != "sqlite":
        return
    with contextlib.closing(engine.raw_connection()) as connection:
        connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
