"""What is answered instead of a result: always OpenAI's object, {"error": {"message", "type", "param", "code"}}.

OpenAI's clients try again by themselves after 408, 409, 429 and every 5xx. A job that failed would only fail again, and
slowly: `x-should-retry` says which refusals are worth another try.
"""

import math

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
WORTH_ANOTHER_TRY = (429, 503)


class Problem(HTTPException):
    """A request that cannot be met. message: what was given, what is accepted. seconds: when to try again."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None, seconds: float = 0.0
    ) -> None:
        super().__init__(status, message)
        self.code, self.param, self.seconds = code, param, seconds


def body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    """Return the object that says so."""
    kind = "server_error" if status >= 500 else TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def response(error: HTTPException) -> JSONResponse:
    """Return the response to a request that failed so."""
    headers = dict(error.headers or {})
    headers["x-should-retry"] = "true" if error.status_code in WORTH_ANOTHER_TRY else "false"
    code = param = None
    if isinstance(error, Problem):
        code, param = error.code, error.param
        if error.seconds:
            headers["retry-after"] = str(math.ceil(error.seconds))
    if error.status_code == 401:
        headers["www-authenticate"] = "Bearer"
    if error.status_code == 408:  # of a 413 the client would see the end of the connection before the sentence
        headers["connection"] = "close"
    return JSONResponse(body(error.status_code, error.detail, code, param), error.status_code, headers)
