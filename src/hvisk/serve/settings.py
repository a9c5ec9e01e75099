"""How a service is set: one frozen object, made by the command line, given whole to the workers.

All that a service keeps lies in one folder, `data`:

    data/lock            held while a server runs: two of them on one folder would finish jobs twice
    data/server          who this folder belongs to, where several servers share one database
    data/hvisk.sqlite    jobs and transcripts, unless `database` names another place
    data/audio/ID        the uploads, named by us, never by the client
    data/corpus/         corrected segments, as `hvisk prepare folder` reads them
"""

import ipaddress
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from hvisk.errors import HviskError

LOOPBACK = "127.0.0.1"
PORT = 8177
LEAST_TOKEN = 16  # characters
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a client may cost.

    file_bytes, audio_seconds: of one recording. free_bytes: disk that uploads leave free. client_jobs: queued or running
    at once. client_uploads, client_streams: requests that are being received, and event streams, at once. client_live,
    live: captions at once, a process each. stall_seconds: between two parts of a request. least_rate: bytes a second,
    from the end of the first stall_seconds on.
    """

    file_bytes: int = 2048 * MEBIBYTE
    audio_seconds: float = 12 * 3600.0
    free_bytes: int = 512 * MEBIBYTE
    files: int = 100
    client_jobs: int = 1000
    client_uploads: int = 128
    client_streams: int = 256
    client_live: int = 2
    live: int = 4
    stall_seconds: float = 20.0
    least_rate: float = 2000.0


@dataclass(frozen=True)
class Settings:
    """A service. keep_audio, keep_transcripts: seconds after a job's end; 0 deletes the sound when the text is there.

    names: hosts, besides this machine's own addresses, that a browser may call the server by. model: as `models` takes
    it. threads: cores a worker. forget: data is a folder of its own that is emptied at both ends. proxy: believe what
    a proxy on this machine says of its clients.
    """

    data: Path
    model: str | None = None
    host: str = LOOPBACK
    port: int = PORT
    token: str = ""
    names: tuple[str, ...] = ()
    database: str = ""
    workers: int = 1
    threads: int = 1
    language: str = "da"
    beam_size: int = 5
    guards: bool = True
    keep_audio: float = 24 * 3600.0
    keep_transcripts: float = 30 * 24 * 3600.0
    forget: bool = False
    proxy: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def audio(self) -> Path:
        return self.data / "audio"

    @property
    def corpus(self) -> Path:
        return self.data / "corpus"

    @property
    def url(self) -> str:
        """The database, as SQLAlchemy names it."""
        return self.database or f"sqlite:///{self.data / 'hvisk.sqlite'}"

    @property
    def local(self) -> bool:
        return is_loopback(self.host)

    def to_json(self) -> str:
        """One line, which `from_json` reads back."""
        return json.dumps({**asdict(self), "data": str(self.data)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        value: dict[str, Any] = json.loads(text)
        value.update(data=Path(value["data"]), names=tuple(value["names"]), limits=Limits(**value["limits"]))
        return cls(**value)


def check(settings: Settings) -> None:
    """Raise HviskError for settings that would open the service to others, or that cannot be met."""
    if not settings.local and not settings.token:
        raise HviskError(
            f"On {settings.host} everybody in reach of this machine could read the transcripts: a token is needed. Give one "
            f"of at least {LEAST_TOKEN} characters in HVISK_TOKEN, or leave --host out to serve this machine alone."
        )
    if settings.token and (len(settings.token) < LEAST_TOKEN or not settings.token.isascii()):
        raise HviskError(
            f"The token has {len(settings.token)} characters. Accepted are {LEAST_TOKEN} or more of ASCII. Make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
