"""The API of the page: jobs, their progress, sound, transcripts and what becomes of them. docs/service.md describes it."""

import asyncio
import contextlib
import mimetypes
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from hvisk.errors import AudioError, MissingExtra
from hvisk.recogniser.expected import separated
from hvisk.serve import documents
from hvisk.serve.events import BEAT, BEAT_SECONDS, LOOK_SECONDS, changed, sse
from hvisk.serve.jobs import ENDED, Job, State
from hvisk.serve.problems import Problem
from hvisk.serve.service import LANGUAGE, Here, Service
from hvisk.serve.uploads import received

MOST_LISTED = 1000
STREAM_HEADERS = {"x-accel-buffering": "no"}  # nginx would hold events back
EVENT_STREAM = "text/event-stream"

router = APIRouter(prefix="/api", tags=["page"], responses={"4XX": {"description": "An error, in OpenAI's form"}})
Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="A job's id.")]

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["files"],
    "properties": {
        "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
        "language": {"type": "string", "pattern": LANGUAGE},
        "style": {"type": "string", "enum": ["", "written", "plain"]},
        "keywords": {"type": "string", "description": "Words that the recordings may hold, with commas between them."},
    },
}
_correcting = asyncio.Lock()  # the corpus is one folder with one manifest


@router.post(
    "/jobs",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def upload(request: Request, here: Here) -> JSONResponse:
    """Accept recordings, all of the request or none."""
    async with received(request, here.settings.audio, here.settings.limits) as form:
        uploads = [file for file in form.files if file.field in ("files", "files[]", "file")]
        if not uploads:
            raise Problem(400, "The form has no file. Accepted are one or more in the field 'files'.", param="files")
        if empty := next((file for file in uploads if not file.size), None):
            raise Problem(400, f"{empty.name} is empty.", param="files", code="invalid_audio")
        fields = dict(form.fields)
        options = {
            "language": here.spoken([fields.get("language", "")]),
            "beam_size": here.settings.beam_size,
            "words": True,
            **here.written(fields.get("style", "")),
            **here.expected(separated(fields.get("keywords", ""))),
        }
        ids = await here.submit(form, uploads, "page", request.state.client, options)
    return JSONResponse({"jobs": await _all_shown(here, [await _job(here, job) for job in ids])}, 201)


@router.get("/jobs")
async def listed(
    here: Here,
    state: State | None = None,
    before: Annotated[
        float | None, Query(description="Only jobs created before this time.", allow_inf_nan=False)
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
) -> JSONResponse:
    """List the jobs of the page, the newest first."""
    found = await asyncio.to_thread(lambda: here.jobs.listed(state=state, before=before, limit=limit))
    return JSONResponse({"jobs": await _all_shown(here, found)})


@router.get("/jobs/{id}")
async def one(id: Id, here: Here) -> JSONResponse:
    """Describe one job."""
    return JSONResponse(await _shown(here, await _job(here, id)))


@router.post("/jobs/{id}/cancel")
async def cancel(id: Id, here: Here) -> JSONResponse:
    """End a job that has not ended."""
    if not await here.change(here.jobs.cancel, id):
        found = await _job(here, id)
        raise Problem(409, f"The job is {found['state']}: there is nothing to cancel.", code="wrong_state")
    return JSONResponse(await _shown(here, await _job(here, id)))


@router.post("/jobs/{id}/retry")
async def retry(id: Id, here: Here) -> JSONResponse:
    """Queue a failed or cancelled job again."""
    if not await here.change(here.jobs.retry, id):
        found = await _job(here, id)
        reason = f"The job is {found['state']}" if found["audio"] else "Its sound is deleted"
        raise Problem(409, f"{reason}: it cannot be tried again.", code="wrong_state")
    return JSONResponse(await _shown(here, await _job(here, id)))


@router.delete("/jobs/{id}", status_code=204)
async def delete(id: Id, here: Here) -> Response:
    """Delete a job, its sound and its transcript. What is in the corpus stays there."""
    if not await here.change(here.remove, id):
        raise _unknown()
    return Response(status_code=204)


@router.get("/jobs/{id}/events", response_class=Response, responses={200: {"content": {EVENT_STREAM: {}}}})
async def events(id: Id, request: Request, here: Here) -> StreamingResponse:
    """Tell how a job goes on: `job`, `segments` and, as the last, `end`."""
    await _job(here, id)
    seen = request.headers.get("last-event-id", "")
    return StreamingResponse(_events(here, id, seen), media_type=EVENT_STREAM, headers=STREAM_HEADERS)


@router.get("/events", response_class=Response, responses={200: {"content": {EVENT_STREAM: {}}}})
async def all_events(here: Here) -> StreamingResponse:
    """Tell how all jobs of the page go on: `job` for each that changes, `gone` for one that is deleted."""
    return StreamingResponse(_all_events(here), media_type=EVENT_STREAM, headers=STREAM_HEADERS)


@router.get("/jobs/{id}/audio", response_class=Response, responses={200: {"content": {"audio/*": {}}}})
async def sound(id: Id, here: Here) -> FileResponse:
    """Give the uploaded file back, or the range that is asked for, while it is kept."""
    found = await _job(here, id)
    path = here.settings.audio / id
    try:
        stat = path.stat()
    except FileNotFoundError:
        stat = None
    if not found["audio"] or stat is None:
        raise Problem(410, "The sound is deleted.", code="audio_deleted")
    guess = mimetypes.guess_type(found["name"])[0] or ""
    kind = guess if guess.startswith(("audio/", "video/")) else "application/octet-stream"
    headers = {"content-security-policy": "sandbox; default-src 'none'"}
    return FileResponse(path, media_type=kind, headers=headers, stat_result=stat)  # it may be deleted meanwhile


@router.get("/jobs/{id}/transcript")
async def transcript(id: Id, here: Here) -> JSONResponse:
    """Give the newest version of a transcript; of a job that runs, what there is so far."""
    found = await _job(here, id)
    return JSONResponse(await asyncio.to_thread(documents.load, here.jobs, found))


@router.put("/jobs/{id}/transcript")
async def save(id: Id, edited: documents.Edited, here: Here) -> JSONResponse:
    """Save a transcript as the next version, unless the version that it was made of is no longer the newest."""
    found = await _job(here, id)
    if found["state"] != "done":
        raise Problem(409, f"The job is {found['state']}: there is nothing to correct yet.", code="wrong_state")
    data = {"segments": [segment.model_dump() for segment in edited.segments]}
    saved, version = await asyncio.to_thread(here.jobs.edit, id, edited.version, data)
    if not version:
        raise _unknown()
    if not saved:
        raise Problem(409, f"Version {version} was saved meanwhile.", code="version_conflict", param=str(version))
    return JSONResponse({"version": version})


@router.get("/jobs/{id}/export", response_class=Response, responses={200: {"content": {"*/*": {}}}})
async def export(id: Id, here: Here, format: documents.Form = "txt") -> Response:
    """Give the newest version of a transcript as a file."""
    found = await _job(here, id)
    if found["state"] != "done":
        raise Problem(409, f"The job is {found['state']}: there is no transcript yet.", code="wrong_state")

    def made() -> bytes:
        return documents.exported(documents.load(here.jobs, found), format)

    try:
        content = await asyncio.to_thread(made)
    except MissingExtra as error:
        raise Problem(400, str(error), code="missing_extra", param="format") from error
    stem = found["name"].rpartition(".")[0] or found["name"]
    disposition = f"attachment; filename=\"transcript.{format}\"; filename*=UTF-8''{quote(f'{stem}.{format}', safe='')}"
    kind = documents.TYPES[format]
    return Response(content, media_type=kind, headers={"content-disposition": disposition})


@router.post("/jobs/{id}/corpus")
async def corpus(id: Id, here: Here, which: Annotated[Literal["checked", "all"], Body(embed=True)] = "checked") -> Any:
    """Save the checked segments, or all, to the corpus, in place of what this job had there."""
    from hvisk.serve import corrections

    found = await _job(here, id)
    path = here.settings.audio / id
    if found["state"] != "done":
        raise Problem(409, f"The job is {found['state']}: there is no transcript yet.", code="wrong_state")
    if not found["audio"] or not path.is_file():
        raise Problem(410, "The sound is deleted, and a corpus without sound teaches nothing.", code="audio_deleted")
    document = await asyncio.to_thread(documents.load, here.jobs, found)
    chosen = [segment for segment in document["segments"] if which == "all" or segment["checked"]]
    async with _correcting:
        try:
            saved = await asyncio.to_thread(corrections.save, here.settings.corpus, id, found["name"], path, chosen)
        except AudioError as error:
            raise Problem(409, str(error), code="invalid_audio") from error
    command = f"hvisk prepare folder {here.settings.corpus.resolve()} --out CORPUS"
    return JSONResponse(
        {
            "clips": saved.clips,
            "seconds": saved.seconds,
            "left_out": saved.left_out,
            "folder": str(here.settings.corpus.resolve()),
            "next": command,
        }
    )


async def _events(here: Service, job: str, seen: str) -> AsyncIterator[str]:
    attempt, sent, last, silent = "", 0, None, 0.0
    with contextlib.suppress(ValueError):
        attempt, sent = seen.split(".")[0], int(seen.split(".")[1]) if "." in seen else 0
    with here.signals.watching(job) as event:
        while not here.signals.closing:
            found = await asyncio.to_thread(here.jobs.get, job)
            if found is None:
                yield sse({"id": job}, event="gone")
                return
            if str(found["attempt"]) != attempt:  # begun again: what was sent of the last attempt counts no more
                attempt, sent = str(found["attempt"]), 0
            segments = await asyncio.to_thread(here.jobs.segments, job, max(sent, 0))
            if segments:
                first, sent = sent, sent + len(segments)
                shown = [documents.shown(segment) for segment in segments if not segment["left_out"]]
                data = {"first": first, "segments": shown}
                yield sse(data, event="segments", identity=f"{attempt}.{sent}")
            state = await _shown(here, found)
            if state != last:
                last = state
                yield sse(state, event="job")
                silent = 0.0
            if found["state"] in ENDED:
                yield sse(state, event="end", identity=f"{attempt}.{sent}")
                return
            silent = 0.0 if await changed(event) else silent + LOOK_SECONDS
            if silent >= BEAT_SECONDS:
                silent = 0.0
                yield BEAT


async def _all_events(here: Service) -> AsyncIterator[str]:
    known: dict[str, dict[str, Any]] = {}
    first, silent = True, 0.0
    with here.signals.watching() as event:
        while not here.signals.closing:
            found = await asyncio.to_thread(lambda: here.jobs.listed(limit=MOST_LISTED))
            now = {job["id"]: dict(job) for job in found}
            new = [job for job in found if known.get(job["id"]) != now[job["id"]]]
            told = await _all_shown(here, new)
            if first:
                yield sse({"jobs": told}, event="jobs")
            else:
                for state in reversed(told):
                    yield sse(state, event="job")
            for gone in known.keys() - now.keys():
                yield sse({"id": gone}, event="gone")
            known, first = now, False
            silent = 0.0 if await changed(event) else silent + LOOK_SECONDS
            if silent >= BEAT_SECONDS:
                silent = 0.0
                yield BEAT
            await asyncio.sleep(0.2)  # under load many changes are one look at the table


async def _job(here: Service, job: str) -> Job:
    found = await asyncio.to_thread(here.jobs.get, job)
    if found is None:
        raise _unknown()
    return found


def _unknown() -> Problem:
    return Problem(404, "There is no such job. GET /api/jobs lists those that there are.", code="job_not_found")


async def _shown(here: Service, job: Job) -> dict[str, Any]:
    (found,) = await _all_shown(here, [job])
    return found


async def _all_shown(here: Service, found: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs as the API describes them."""
    waiting = any(job["state"] == "queued" for job in found)
    ahead = await asyncio.to_thread(here.jobs.ahead) if waiting else {}
    return [shown(dict(job), ahead.get(job["id"], 0) if job["state"] == "queued" else None, here) for job in found]


def shown(job: Mapping[str, Any], ahead: int | None, here: Service) -> dict[str, Any]:
    """Return the object that docs/service.md describes."""
    settings, length = here.settings, job["seconds"]
    progress = 1.0 if job["state"] == "done" else min(job["heard"] / length, 1.0) if length else None
    ended = job["finished"] if job["state"] in ENDED else None
    return {
        "id": job["id"],
        "name": job["name"],
        "size": job["size"],
        "language": job["options"]["language"],
        "state": job["state"],
        "ahead": ahead,
        "attempt": job["attempt"],
        "seconds": round(length, 3) if length is not None else None,
        "heard": round(job["heard"], 3),
        "progress": round(progress, 4) if progress is not None else None,
        "created": job["created"],
        "started": job["started"],
        "finished": job["finished"],
        "error": job["error"],
        "warning": job["warning"],
        "audio": job["audio"],
        "audio_until": ended + settings.keep_audio if ended and job["audio"] else None,
        "transcript_until": ended + settings.keep_transcripts if ended else None,
    }
