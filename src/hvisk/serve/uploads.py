"""A multipart body -> files on the disk, written as they come: no recording is ever in memory, whatever its size.

A file is spooled under a name of ours; what the client calls it is a label to be shown, cleaned of all that could be more.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from hvisk.serve.problems import Problem
from hvisk.serve.settings import Limits

FIELD_BYTES = 64 << 10
FIELDS = 1000
NAME_CHARACTERS = 200
DISK_STEP = 16 << 20  # bytes between looks at how much of the disk is free


@dataclass(frozen=True)
class Upload:
    """A file that lies complete on the disk. id: its name there; field: of the form; name: what to show."""

    id: str
    field: str
    name: str
    size: int
    sha256: str


@dataclass
class Form:
    """What a form held. kept: ids of uploads that became jobs; the rest is deleted."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[Upload] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)


@asynccontextmanager
async def received(request: Request, folder: Path, limits: Limits) -> AsyncIterator[Form]:
    """Yield the form of a request; files that are not in `kept` at the end are deleted.

    Raises Problem for what is no form, breaks off, is larger than the limits allow or than the disk has room for.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(415, "Accepted is multipart/form-data with a field 'file'.", code="not_multipart")
    declared = request.headers.get("content-length", "")
    _room(folder, limits, int(declared) if declared.isdecimal() and len(declared) < 16 else 0)
    spool = _Spool(folder, limits)
    try:
        parser = MultipartParser(options[b"boundary"], spool.callbacks())
        try:
            async for chunk in request.stream():
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise Problem(400, f"The form is damaged: {error}.", code="broken_form") from error
        except ClientDisconnect as error:
            raise Problem(400, "The client left before the form was complete.", code="broken_form") from error
        except OSError as error:
            raise Problem(507, f"The upload cannot be stored: {error.strerror}.", code="disk_full") from error
        if not spool.complete:
            raise Problem(400, "The form breaks off.", code="broken_form")
        await asyncio.to_thread(_durable, folder, [folder / file.id for file in spool.form.files])
        yield spool.form
    finally:
        spool.close()
        for identity in spool.begun - spool.form.kept:
            (folder / identity).unlink(missing_ok=True)


class _Spool:
    """The parser's callbacks, and what they have gathered."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.form = Form()
        self.begun: set[str] = set()
        self.complete = False
        self._header = [b"", b""]
        self._headers: dict[str, bytes] = {}
        self._field = self._name = self._id = ""
        self._file: BinaryIO | None = None
        self._value = bytearray()
        self._size = self._looked = 0
        self._hash = hashlib.sha256()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._head(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._head(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": lambda data, start, end: self._data(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._done,
        }

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _begin(self) -> None:
        self._headers, self._header = {}, [b"", b""]

    def _head(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _header_end(self) -> None:
        self._headers[self._header[0].decode("latin-1").lower()] = self._header[1]
        self._header = [b"", b""]

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._value, self._size, self._looked, self._hash = bytearray(), 0, 0, hashlib.sha256()
        if len(self.form.fields) + len(self.form.files) >= FIELDS:
            raise Problem(413, f"The form has more than {FIELDS} fields.", code="too_large")
        if b"filename" not in options:
            return
        if len(self.form.files) >= self.limits.files:
            raise Problem(413, f"At most {self.limits.files} files are accepted at once.", code="too_large")
        self._name = shown(options[b"filename"].decode("utf-8", "replace"))
        self._id = secrets.token_hex(16)
        self.begun.add(self._id)
        self._file = (self.folder / self._id).open("xb")

    def _data(self, data: bytes) -> None:
        self._size += len(data)
        if self._file is None:
            self._value += data[: FIELD_BYTES - len(self._value)]
            if self._size > FIELD_BYTES and not self._field.startswith(
                "known_speaker_references"
            ):  # sounds in a field, which nobody here hears
                raise Problem(413, f"The field '{shown(self._field)}' is longer than 64 KiB.", code="too_large")
            return
        if self._size > self.limits.file_bytes:
            raise Problem(
                413,
                f"{self._name} is larger than the {self.limits.file_bytes >> 20} MiB that are accepted.",
                code="too_large",
                param="file",
            )
        if self._size - self._looked > DISK_STEP:
            self._looked = self._size
            _room(self.folder, self.limits, 0)
        self._hash.update(data)
        self._file.write(data)

    def _end(self) -> None:
        if self._file is None:
            self.form.fields.append((self._field, bytes(self._value).decode("utf-8", "replace")))
            return
        self._file.close()
        self._file = None
        self.form.files.append(Upload(self._id, self._field, self._name, self._size, self._hash.hexdigest()))

    def _done(self) -> None:
        self.complete = True


def shown(name: str) -> str:
    """Return a client's name for a file as it may be shown: no path, no control or direction characters, not long.

    It is text all the same, and may look like HTML: whoever shows it escapes it.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c for c in unicodedata.normalize("NFC", last) if unicodedata.category(c)[0] != "C")
    kept = " ".join(kept.split())
    if len(kept) > NAME_CHARACTERS:
        kept = kept[: NAME_CHARACTERS - 20] + "…" + kept[-19:]
    return kept if kept.strip(". ") else "recording"


def _room(folder: Path, limits: Limits, coming: int) -> None:
    free = shutil.disk_usage(folder).free
    if free - coming < limits.free_bytes:
        raise Problem(
            507,
            f"The disk has {free >> 20} MiB free, of which {limits.free_bytes >> 20} are kept: there is no room for it.",
            code="disk_full",
        )


def _durable(folder: Path, paths: list[Path]) -> None:
    """An upload that is accepted survives a power cut."""
    for path in (*paths, folder) if os.name != "nt" else paths:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
