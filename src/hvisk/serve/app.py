"""The application: the routes, what they are behind, and what begins and ends with them."""

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy import make_url
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from hvisk import __version__
from hvisk.serve import api, documents, live, openai_api
from hvisk.serve.access import COOKIE, Access, cookie_value
from hvisk.serve.observe import log
from hvisk.serve.problems import Problem, response
from hvisk.serve.service import Here, Service

PAGE = Path(__file__).parent / "page"
SESSION_SECONDS = 30 * 24 * 3600


def build(here: Service) -> FastAPI:
    """Return the application of a service. Its workers are started by the server, once the port is open."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(here.sweep())
        yield
        sweeper.cancel()
        here.signals.close()
        await here.crew.leave()
        log("ended")

    # No /docs: its page would be fetched from elsewhere.
    app = FastAPI(title="hvisk", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = here
    app.include_router(openai_api.router)
    app.include_router(api.router)
    app.include_router(live.router)
    app.get("/health", tags=["operation"], responses={503: {"description": "The model is not there yet"}})(health)
    app.get("/metrics", tags=["operation"], response_class=Response)(metrics)
    app.get("/api/about", tags=["page"])(about)
    app.post("/api/login", tags=["page"], status_code=204, responses={"4XX": {"description": "No"}})(login)
    app.exception_handler(HTTPException)(_failed)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(Exception)(_broken)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_middleware(Access, settings=here.settings, metrics=here.metrics)
    return app


async def health(here: Here) -> JSONResponse:
    """Say whether recordings are recognised: 200 when the model is loaded, 503 before; both accept uploads."""
    await asyncio.to_thread(here.jobs.get, "")
    return JSONResponse({"status": here.crew.state}, 200 if here.crew.state == "ready" else 503)


async def metrics(here: Here) -> Response:
    """Give the figures that Prometheus collects."""
    text = await asyncio.to_thread(here.metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def about(here: Here) -> JSONResponse:
    """Tell what runs here, where everything is, and when it is deleted."""
    settings, model = here.settings, here.crew.model
    counts = await asyncio.to_thread(here.jobs.counts)

    def stored() -> tuple[int, int]:
        sizes = []
        for path in settings.audio.iterdir():
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
        return len(sizes), sum(sizes)

    files, size = await asyncio.to_thread(stored)
    return JSONResponse(
        {
            "hvisk": __version__,
            "python": platform.python_version(),
            "model": {
                "name": documents.model_name(settings),
                "state": here.crew.state,
                "directory": model.get("directory"),
                "languages": model.get("languages", []),
                "styles": model.get("styles", []),
            },
            "places": {
                "data": str(settings.data.resolve()),
                "audio": str(settings.audio.resolve()),
                "corpus": str(settings.corpus.resolve()),
                "database": make_url(settings.url).render_as_string(hide_password=True),
            },
            "stored": {
                "audio_files": files,
                "audio_bytes": size,
                "jobs": {state: sum(n for (_, s), n in counts.items() if s == state) for _, state in counts},
            },
            "retention": {
                "audio_seconds": settings.keep_audio,
                "transcript_seconds": settings.keep_transcripts,
                "forget": settings.forget,
            },
            "limits": {
                "file_bytes": settings.limits.file_bytes,
                "audio_seconds": settings.limits.audio_seconds,
                "files": settings.limits.files,
                "client_jobs": settings.limits.client_jobs,
                "client_live": settings.limits.client_live,
            },
            "language": settings.language,
            "formats": list(documents.TYPES),
            "token": bool(settings.token),
            "network": "Nothing is sent anywhere. The service listens on "
            + (f"{settings.host}, for this machine alone." if settings.local else f"{settings.host}, behind a token."),
        }
    )


async def login(request: Request, here: Here, token: Annotated[str, Body(embed=True, max_length=1000)]) -> Response:
    """Take the token and give the browser a cookie, which lasts a month."""
    settings = here.settings
    if not settings.token:
        return Response(status_code=204)
    request.state.judge(token, request.state.client)
    answer = Response(status_code=204)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, cookie_value(settings.token), max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


async def _failed(_: Request, error: Any) -> Response:
    return response(error)


async def _invalid(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    return response(
        Problem(400, f"{place or 'The request'}: {first['msg']}.", param=place or None, code="invalid_value")
    )


async def _broken(request: Request, error: Exception) -> Response:
    log("error", error=type(error).__name__, route=getattr(request.scope.get("route"), "path", "none"))
    return response(Problem(500, "Something broke here. The log has what.", code="internal"))
