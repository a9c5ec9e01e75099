"""OpenAI's audio API, as its official client speaks it: POST /v1/audio/transcriptions and GET /v1/models.

A request is a job like any other, for which the connection waits. A client that lost its patience and tries again (the
official one does so twice, after ten minutes each) is given the job that it has already, not a second one.

What this recogniser has no use for is accepted and named in the response's header `x-hvisk-ignored`: known speakers, and a
prompt where the model never learnt with one.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from hvisk.serve import documents
from hvisk.serve.events import BEAT, BEAT_SECONDS, LOOK_SECONDS, changed, sse
from hvisk.serve.jobs import ENDED, MAX_CRASHES, Job
from hvisk.serve.problems import Problem, body
from hvisk.serve.service import Here, Service, fingerprint
from hvisk.serve.uploads import received

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
ALIASES = ("whisper-1", "gpt-transcribe")  # what clients ask for that were made for OpenAI's own
IGNORED = ("known_speaker_names", "known_speaker_references")
FRAMES_PER_SECOND = 100  # of which `seek` counts

# The names that Whisper's verbose_json gives languages; a language that is not here goes by its code.
LANGUAGES = {"da": "danish", "no": "norwegian", "nn": "nynorsk", "sv": "swedish", "de": "german", "en": "english"}

_FILE = {"type": "string", "format": "binary", "description": "A sound or video file."}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "model"],
    "properties": {
        "file": _FILE,
        "model": {"type": "string", "description": "Any name; one model is served."},
        "language": {"type": "string", "description": "ISO 639-1."},
        "languages[]": _STRINGS,
        "keywords[]": {**_STRINGS, "description": "Words that the recording may hold, as they are to be written."},
        "prompt": {"type": "string"},
        "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
        "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}},
        "include[]": {"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
        "chunking_strategy": {"type": "string", "description": "auto, or an object of the type server_vad."},
        "stream": {"type": "boolean", "default": False},
    },
}

router = APIRouter(responses={"4XX": {"description": "An error, in OpenAI's form"}})


@dataclass(frozen=True)
class Wanted:
    """What a request asks for. options: of the job; ignored: fields that were given and mean nothing here."""

    form: str
    stream: bool
    words: bool
    segments: bool
    logprobs: bool
    options: dict[str, Any]
    ignored: tuple[str, ...]


@router.get("/v1/models", tags=["OpenAI"])
async def models(here: Here) -> JSONResponse:
    """List the model that is served, and the names that it also answers to."""
    return JSONResponse({"object": "list", "data": [_model(name) for name in _names(here)]})


@router.get("/v1/models/{model:path}", tags=["OpenAI"])
async def model(model: str, here: Here) -> JSONResponse:
    """Describe one of the models listed."""
    if model not in _names(here):
        raise Problem(404, "There is no such model. GET /v1/models lists those that there are.", code="model_not_found")
    return JSONResponse(_model(model))


@router.post(
    "/v1/audio/transcriptions",
    tags=["OpenAI"],
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
)
async def transcriptions(request: Request, here: Here) -> Response:
    """Transcribe a recording, in any of OpenAI's forms but the one that tells speakers apart."""
    client = request.state.client
    async with received(request, here.settings.audio, here.settings.limits) as form:
        uploads = [upload for upload in form.files if upload.field == "file"]
        if len(uploads) != 1:
            raise Problem(400, f"The form has {len(uploads)} files named 'file'; one is needed.", param="file")
        if not uploads[0].size:
            raise Problem(400, f"{uploads[0].name} is empty.", param="file", code="invalid_audio")
        wanted = parse(form.fields, here)
        key = request.headers.get("idempotency-key", "")
        tried = request.headers.get("x-stainless-retry-count", "0") != "0" or bool(key)
        options = wanted.options
        job = await asyncio.to_thread(here.jobs.again, fingerprint(uploads[0], options)) if tried else None
        if job is None:
            (job,) = await here.submit(form, uploads, "api", client, options)
    headers = {"x-hvisk-job": job} | ({"x-hvisk-ignored": ", ".join(wanted.ignored)} if wanted.ignored else {})
    if wanted.stream:
        events = _stream(here, job, wanted)
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no", **headers})
    found = await here.ended(job)
    if problem := _failure(found):
        raise problem
    segments = await asyncio.to_thread(here.jobs.segments, job)
    content, kind = await asyncio.to_thread(rendered, found, segments, wanted)
    await asyncio.to_thread(here.jobs.answered, job)
    return Response(content, media_type=kind, headers=headers)


def parse(fields: Sequence[tuple[str, str]], here: Service) -> Wanted:
    """Read the fields of a form. Raises Problem for a value that OpenAI's API does not have, or this one cannot give."""

    def all_of(name: str) -> list[str]:
        return [value for key, value in fields if key in (name, f"{name}[]")]

    def last(name: str, default: str) -> str:
        return (all_of(name) or [default])[-1]

    form = last("response_format", "json")
    if form == "diarized_json":
        raise Problem(
            400, "This model does not tell speakers apart.", param="response_format", code="unsupported_value"
        )
    _among(form, FORMATS, "response_format")
    stream = last("stream", "false").lower()
    _among(stream, ("true", "false", "1", "0"), "stream")
    granularities, include = all_of("timestamp_granularities"), all_of("include")
    for value in granularities:
        _among(value, ("word", "segment"), "timestamp_granularities")
    for value in include:
        _among(value, ("logprobs",), "include")
    if granularities and form != "verbose_json":
        raise Problem(
            400, "timestamp_granularities need response_format=verbose_json.", param="timestamp_granularities"
        )
    if not last("model", ""):
        raise Problem(400, "The field 'model' is missing. Any name is accepted.", param="model", code="missing")
    words = "word" in granularities or form in ("srt", "vtt") or bool(include)
    options = {
        "language": here.spoken([last("language", ""), *all_of("languages")]),
        "beam_size": here.settings.beam_size,
        "words": words,
        "temperature": _number(last("temperature", "0"), "temperature"),
        **here.expected(all_of("keywords")),
        **_threshold(fields, last("chunking_strategy", "")),
    }
    prompt, prompts = last("prompt", "").strip(), here.crew.model.get("prompts", True)
    if prompt and prompts:
        options["prompt"] = prompt
    ignored = tuple(name for name in IGNORED if any(all_of(name))) + ("prompt",) * bool(prompt and not prompts)
    return Wanted(
        form,
        stream in ("true", "1"),
        "word" in granularities,
        "segment" in granularities or not granularities,
        bool(include),
        options,
        ignored,
    )


def rendered(job: Job, segments: Sequence[dict[str, Any]], wanted: Wanted) -> tuple[str, str]:
    """Return the body of a response, and its type."""
    spoken = [segment for segment in segments if not segment["left_out"]]
    text = " ".join(segment["text"] for segment in spoken)
    seconds = round(job["seconds"] or 0.0, 3)
    if wanted.form == "text":
        return text + "\n", "text/plain"
    if wanted.form in ("srt", "vtt"):
        kind = "text/vtt" if wanted.form == "vtt" else "application/x-subrip"
        return documents.exported(documents.recognised(job, segments), wanted.form).decode(), kind
    language = job["options"]["language"]
    usage = {"type": "duration", "seconds": math.ceil(seconds)}
    if wanted.form == "json":
        value: dict[str, Any] = {"text": text, "languages": [{"code": language}], "usage": usage}
        if wanted.logprobs:
            value["logprobs"] = list(_logprobs(spoken))
    else:
        value = {"task": "transcribe", "language": LANGUAGES.get(language, language), "duration": seconds, "text": text}
        if wanted.segments:
            value["segments"] = [_verbose(number, segment) for number, segment in enumerate(spoken)]
        if wanted.words:
            value["words"] = [
                {"word": word["text"], "start": word["start"], "end": word["end"]}
                for segment in spoken
                for word in segment["words"]
            ]
        value["usage"] = usage
    return json.dumps(value, ensure_ascii=False), "application/json"


async def _stream(here: Service, job: str, wanted: Wanted) -> AsyncIterator[str]:
    """Yield what is recognised, a piece between two pauses at a time."""
    texts: list[str] = []
    sent, tokens, silent = 0, 0, 0.0
    with here.signals.watching(job) as event:
        while True:
            found = await asyncio.to_thread(here.jobs.get, job)
            problem = _failure(found) if found else Problem(410, "The job was deleted.", code="deleted")
            if problem is None and here.signals.closing and found and found["state"] not in ENDED:
                problem = Problem(503, "The service is ending. The job goes on when it is back.", code="ending")
            if problem is not None or found is None:
                assert problem
                yield sse(body(problem.status_code, problem.detail, problem.code), event="error")
                return
            new = await asyncio.to_thread(here.jobs.segments, job, sent)
            sent += len(new)
            for segment in new:
                if not segment["left_out"]:
                    tokens += len(segment["tokens"])
                    delta = (" " if texts else "") + segment["text"]
                    texts.append(segment["text"])
                    extra = {"logprobs": list(_logprobs([segment]))} if wanted.logprobs else {}
                    yield sse({"type": "transcript.text.delta", "delta": delta, **extra})
            if found["state"] == "done":
                break
            silent = 0.0 if await changed(event) else silent + LOOK_SECONDS
            if silent >= BEAT_SECONDS:
                silent = 0.0
                yield BEAT
    heard = math.ceil(found["seconds"] or 0.0)
    usage = {"type": "tokens", "input_tokens": heard, "output_tokens": tokens, "total_tokens": heard + tokens}
    languages = [{"code": found["options"]["language"]}]
    yield sse({"type": "transcript.text.done", "text": " ".join(texts), "languages": languages, "usage": usage})
    await asyncio.to_thread(here.jobs.answered, job)


def _failure(job: Job) -> Problem | None:
    if job["state"] == "failed":
        broken = job["crashes"] >= MAX_CRASHES
        return Problem(500 if broken else 400, job["error"], code="recognition_failed" if broken else "invalid_audio")
    if job["state"] == "cancelled":
        return Problem(410, "The job was cancelled.", code="cancelled")
    if job["state"] == "done" and job["warning"]:  # half a recording must not look like all of it
        return Problem(400, job["warning"], code="invalid_audio", param="file")
    return None


def _verbose(number: int, segment: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": number,
        "seek": round(segment["start"] * FRAMES_PER_SECOND),
        "start": segment["start"],
        "end": segment["end"],
        "text": " " + segment["text"],  # as Whisper has it: the segments' texts follow each other without a blank
        "tokens": segment["tokens"],
        "temperature": segment["temperature"],
        "avg_logprob": segment["score"],
        "compression_ratio": segment["compression"],
        "no_speech_prob": segment["no_speech"],
    }


def _logprobs(segments: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A word stands for its tokens: their mean log-probability."""
    for segment in segments:
        for word in segment["words"]:
            text = " " + word["text"]
            yield {
                "token": text,
                "bytes": list(text.encode()),
                "logprob": round(math.log(max(word["probability"], 1e-4)), 4),
            }


def _threshold(fields: Sequence[tuple[str, str]], strategy: str) -> dict[str, float]:
    """The voice activity's threshold, where a strategy of the client's own gives one."""
    own: dict[str, Any] = {name[18:-1]: value for name, value in fields if name.startswith("chunking_strategy[")}
    if strategy.startswith("{"):
        try:
            own |= json.loads(strategy)
        except (ValueError, RecursionError):
            raise Problem(400, "chunking_strategy is no JSON object.", param="chunking_strategy") from None
    elif strategy:
        _among(strategy, ("auto",), "chunking_strategy")
    given = own.get("threshold")
    return {} if given in (None, "") else {"threshold": _number(str(given), "chunking_strategy")}


def _number(value: str, param: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise Problem(400, f"'{value[:20]}' is no number from 0 to 1.", param=param)
    return number


def _among(value: str, accepted: Sequence[str], param: str) -> None:
    if value not in accepted:
        raise Problem(400, f"'{value[:40]}' is not one of {', '.join(accepted)}.", param=param, code="invalid_value")


def _names(here: Service) -> tuple[str, ...]:
    return (documents.model_name(here.settings), *ALIASES)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "hvisk"}
