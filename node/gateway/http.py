"""What every route of the control API shares: who asks, strict bodies, errors as JSON."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from node.errors import (
    BudgetExceededError,
    FreeholdError,
    JournalWriteError,
    NoAnswerError,
    NotFoundError,
    OutcomeUnknownError,
    PolicyDeniedError,
    RequestError,
    RunStoppedError,
    StoppingError,
    UnknownRunError,
)
from node.gateway.replies import ErrorReply
from node.idempotency import HEADER, check_key

BODY_MAX_BYTES = 4 * 1024 * 1024
OTHER_VERSION = "Client and daemon may be of different versions: `freehold status` says so."
SHOWN_MAX = 100  # characters of a key that is not known

# an error's class decides; the first that fits, 400 otherwise
STATUS: tuple[tuple[type[FreeholdError], int], ...] = (
    (NotFoundError, 404),
    (UnknownRunError, 404),
    (PolicyDeniedError, 403),
    (BudgetExceededError, 403),
    (RunStoppedError, 403),
    (OutcomeUnknownError, 504),  # a program that is told 4xx asks again, in another way
    (StoppingError, 503),
    (JournalWriteError, 503),
)


class Body(BaseModel):
    """A request's body: unknown keys and loosely typed values are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Nothing(Body):
    """For routes that take nothing: what somebody meant by a key would not be done."""


BodyT = TypeVar("BodyT", bound=Body)


async def read(request: Request, model: type[BodyT]) -> BodyT:
    """The body as `model`; an empty one is `{}`.

    Raises:
        RequestError: too large, not JSON, or not what the route takes.
    """
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > BODY_MAX_BYTES:
                raise RequestError(
                    f"the request is larger than {BODY_MAX_BYTES} bytes",
                    hint="Put long documents into the agent's workspace.",
                )
    except ClientDisconnect as error:
        raise RequestError("the client went away", hint="Send the request again.") from error
    try:
        return model.model_validate_json(bytes(content) or b"{}")
    except ValidationError as error:
        raise _refusal(error, model) from error


def query_int(request: Request, name: str, default: int, maximum: int) -> int:
    """A whole number out of the query string. Raises RequestError if it is not 0..maximum."""
    text = request.query_params.get(name)
    if text is None:
        return default
    found = whole(text)
    if found is None or found > maximum:
        raise RequestError(
            f"{name} must be a whole number from 0 to {maximum}", hint=f"Correct {name}."
        )
    return found


def whole(text: str) -> int | None:
    """The whole number that a text of at most 19 digits is; None where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def actor(request: Request) -> str:
    """Who asks, as the journal names them: `uid:1000`, or `token` over TCP."""
    return _actor(request.scope)


def idempotency_key(request: Request) -> str:
    """The key of a request that may be sent again; empty without. Raises RequestError."""
    return check_key(request.headers.get(HEADER, ""))


def check_local(request: Request, refusal: str, *, hint: str) -> None:
    """Raises PolicyDeniedError where somebody asks over TCP for what never leaves this machine."""
    if actor(request) == "token":
        raise PolicyDeniedError(refusal, hint=hint)


def _actor(scope: Scope) -> str:
    client = scope.get("client")
    name = client[0] if client else ""
    return name if name.startswith("uid:") else "token"


def _refusal(error: ValidationError, model: type[Body]) -> RequestError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:SHOWN_MAX] or "the body"
    allowed = ", ".join(model.model_fields) or "nothing"
    other = f" {OTHER_VERSION}" if first["type"] == "extra_forbidden" else ""
    return RequestError(f"{where}: {first['msg']}", hint=f"This request takes: {allowed}.{other}")


class TokenGate:
    """Lets UNIX peers through (the kernel vouched for them) and asks all others for the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _actor(scope) != "token" or self._presented(scope):
            await self._app(scope, receive, send)
            return
        refusal = RequestError(
            "this address needs the control token",
            hint="Send it as `Authorization: Bearer TOKEN`; it is control.token in config.toml.",
        )
        response = error_response(refusal, 401)
        response.headers["www-authenticate"] = "Bearer"
        response.headers["connection"] = "close"  # what else it sends is not waited for
        await response(scope, receive, send)

    def _presented(self, scope: Scope) -> bool:
        sent = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, value = sent.partition(b" ")
        right = hmac.compare_digest(value.strip(), self._token)
        return bool(self._token) and scheme.lower() == b"bearer" and right


def error_reply(error: FreeholdError) -> ErrorReply:
    """An error as clients get it; `code` lets them raise the same class again."""
    return ErrorReply(error=error.message, hint=error.hint, code=type(error).__name__)


def error_response(error: FreeholdError, status: int) -> JSONResponse:
    """The answer that says it."""
    return JSONResponse(error_reply(error), status)


async def on_error(request: Request, error: Exception) -> Response:
    """Exception handler for the node's own errors and for Starlette's routing errors."""
    if isinstance(error, FreeholdError):
        status = next((code for kind, code in STATUS if isinstance(error, kind)), 400)
        return error_response(error, status)
    assert isinstance(error, HTTPException)
    missing = NotFoundError(
        f"the control API has no such route ({error.detail})",
        hint=OTHER_VERSION,
    )
    response = error_response(missing, error.status_code)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["allow"] = _methods(request)
    return response


def _methods(request: Request) -> str:
    """Those that an address has. Starlette tells only those of the first route of it."""
    routes = [each for each in request.app.routes if each.matches(request.scope)[0] != Match.NONE]
    return ", ".join(sorted({method for each in routes for method in each.methods}))


async def on_bug(request: Request, error: Exception) -> Response:
    """What nobody foresaw: uvicorn logs the traceback, the client gets a sentence. How far it came
    nobody knows."""
    return error_response(
        NoAnswerError(
            f"the daemon failed on {request.method} {request.url.path}: {type(error).__name__}",
            hint="The daemon's own log has the details; please report it.",
        ),
        500,
    )
