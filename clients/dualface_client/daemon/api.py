"""The HTTP API: what a request is, who may send it, what it does and how it is answered.

FastAPI checks requests and describes itself as OpenAPI; uvicorn serves it. Nothing is answered
without the token but the page's frame, which tells nothing, and `/healthz`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from dualface_client import __version__
from dualface_client.closing import ClosesAtExit
from dualface_client.daemon.desired import NotSavedError
from dualface_client.daemon.gate import COOKIE, App, Gate, plain_answer
from dualface_client.daemon.keeper import ConflictError, NoSuchStreamError, StreamState
from dualface_client.daemon.page import serve_page
from dualface_client.daemon.policy import Refusal
from dualface_client.daemon.steering import (
    Done,
    HoldWish,
    LayoutWish,
    Login,
    NewStream,
    RefusedError,
    Steering,
    expected,
)
from dualface_client.daemon.token import Token
from dualface_client.errors import ConfigError, UsageError
from dualface_client.observe.metrics import CONTENT_TYPE, metrics_text
from dualface_client.observe.run_state import RunState
from dualface_client.settings.addresses import shown
from dualface_client.settings.program import DaemonSettings
from dualface_client.stream.preview import SeenPerson

OPENAPI = "/v1/openapi.json"
_CONNECTIONS = 64
_CLOSE_S = 5.0
_NOTES = 10


def _steering(request: Request) -> Steering:
    steering: Steering = request.app.state.steering
    return steering


Uses = Annotated[Steering, Depends(_steering)]
routes = APIRouter(prefix="/v1")


@routes.get("/streams", summary="All streams and how they are doing")
def list_streams(steering: Uses) -> list[dict[str, Any]]:
    """Every stream that should run."""
    return [_shown(each) for each in steering.keeper.streams()]


@routes.post("/streams", status_code=201, summary="Add a stream")
def add_stream(wanted: NewStream, steering: Uses) -> Done:
    """Adds a stream, which is kept running until it is removed."""
    steering.add(wanted)
    return Done(done=f"{wanted.name}: added, and is being started")


@routes.get("/streams/{name}", summary="One stream")
def read_stream(name: str, steering: Uses) -> dict[str, Any]:
    """One stream and how it is doing."""
    return _shown(steering.keeper.stream(name))


@routes.delete("/streams/{name}", summary="Remove a stream")
def remove_stream(name: str, steering: Uses) -> Done:
    """Ends a stream and forgets it; its files stay."""
    ended = steering.keeper.remove(name)
    return Done(done=f"{name}: removed" + ("" if ended else ", and is still ending"))


@routes.post("/streams/{name}/restart", summary="End a stream and start it anew")
def restart_stream(name: str, steering: Uses) -> Done:
    """Starts a stream again at once, also one that has failed."""
    ended = steering.keeper.restart(name)
    return Done(done=f"{name}: is being started" if ended else f"{name}: is still ending")


@routes.post("/streams/{name}/swap", summary="Let the two people change tiles")
def swap_sides(name: str, steering: Uses) -> Done:
    """From the next frame on, and also after a restart."""
    return _done(steering.swap(name), f"{name}: the two have changed tiles")


@routes.post("/streams/{name}/hold", summary="Give a tile to a person")
def hold_side(name: str, wish: HoldWish, steering: Uses) -> Done:
    """From the next frame on, until the stream is started again."""
    done = steering.hold(name, wish)
    return _done(done, f"{name}: the {wish.side} tile is person {wish.person}'s")


@routes.post("/streams/{name}/layout", summary="Divide the canvas in another way")
def change_layout(name: str, wish: LayoutWish, steering: Uses) -> Done:
    """From the next frame on, and also after a restart; the size of the canvas stays."""
    return _done(steering.relayout(name, wish.layout), f"{name}: the layout is {wish.layout}")


def _done(at_once: bool, text: str) -> Done:
    return Done(done=text if at_once else f"{text}, from the next frame on that comes")


@routes.get("/streams/{name}/{picture}.jpg", summary="What a stream shows now")
async def read_picture(name: str, picture: Literal["canvas", "source"], steering: Uses) -> Response:
    """A small JPEG of the canvas or of the source; made only while somebody asks for it."""
    preview = await steering.look(name)
    if preview is None:
        return JSONResponse({"error": f"{name}: shows nothing now"}, 404)
    jpeg = preview.canvas_jpeg if picture == "canvas" else preview.source_jpeg
    return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


@routes.get("/streams/{name}/people", summary="Who is seen in a stream now")
async def read_people(name: str, steering: Uses) -> list[SeenPerson]:
    """The people of the last picture, for `hold`."""
    preview = await steering.look(name)
    return list(preview.people) if preview else []


@routes.get("/status", summary="Server and workers")
def read_status(steering: Uses) -> dict[str, Any]:
    """The daemon itself."""
    return steering.status()


@routes.post("/login", summary="Get a cookie for the token")
def log_in(login: Login, request: Request, response: Response) -> Done:
    """For browsers, which send a cookie by themselves and cannot send a header with pictures."""
    token: Token = request.app.state.token
    if not token.is_right(login.token):
        raise HTTPException(401)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token.cookie, httponly=True, samesite="strict", secure=secure)
    return Done(done="logged in")


def _shown(stream: StreamState) -> dict[str, Any]:
    """A stream for whoever has the token; addresses without what may be secret in them."""
    desired, report = stream.desired, stream.report
    head: dict[str, Any] = {
        "name": desired.name,
        "input": shown(desired.input),
        "outputs": [shown(each) for each in desired.outputs],
        "settings": desired.settings,
        "from_file": stream.from_file,
        "restarts": stream.restarts,
        "state": "starting" if report is None else report.state,
    }
    if report is None:
        return head
    return head | {
        "phase": report.phase,
        "error": report.error,
        "notes": list(report.warnings[-_NOTES:]),
        "frames_in": report.frames_in,
        "frames_out": report.frames_out,
        "fps": round(report.fps, 2),
        "elapsed_s": round(report.elapsed_s, 1),
        "latency_p50_s": round(report.latency_p50_s, 4),
        "latency_p99_s": round(report.latency_p99_s, 4),
        "reid_share": round(report.reid_ratio, 5),
        "live": report.live,
        "dropped": report.dropped,
        "reconnects": report.reconnects,
        "sound_drift_s": round(report.sound_drift_s, 4),
        "sound_corrected_s": round(report.sound_corrected_s, 2),
        "output_reports": [asdict(each) for each in report.outputs],
        "people": {side: person for person, side in report.sides.items()},
    }


def _problems(status: int, refusals: list[Refusal]) -> JSONResponse:
    problems = [{"field": each.field, "text": each.text} for each in refusals]
    text = "; ".join(f"{each.field}: {each.text}" for each in refusals)
    return JSONResponse({"error": text, "problems": problems}, status)


async def _on_refused(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RefusedError)  # noqa: S101 - registered for these only
    return _problems(422, error.refusals)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Names the field and what was expected, and never repeats what was given: it may be secret."""
    del request
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for these only
    refusals = [
        Refusal(".".join(str(part) for part in each["loc"][1:]) or "body", _reason(each))
        for each in error.errors()
    ]
    return _problems(422, refusals)


def _reason(problem: Mapping[str, Any]) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown field; remove it"
    if problem["type"] == "missing":
        return f"is missing; expected {expected(str(problem['loc'][-1])) or 'a JSON object'}"
    if problem["type"] == "json_invalid":
        return "is not JSON"
    return str(problem["msg"])


async def _on_http(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for these only
    return plain_answer(error.status_code)


async def _on_known(request: Request, error: Exception) -> Response:
    del request
    status = 404 if isinstance(error, NoSuchStreamError) else 409
    return JSONResponse({"error": str(error)}, status)


async def _on_not_saved(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, NotSavedError)  # noqa: S101 - registered for these only
    return JSONResponse({"error": str(error)}, 507 if error.is_full else 503)


async def _health(request: Request) -> Response:
    state: RunState = request.app.state.steering.state
    state.stalled()  # looks whether a stream has moved since the server went away
    well = state.is_ready and not state.pool_fault
    return JSONResponse({"ok": well}, 200 if well else 503)


def _metrics(request: Request) -> Response:
    return Response(metrics_text(request.app.state.steering.state), media_type=CONTENT_TYPE)


def make_app(steering: Steering, token: Token) -> App:
    """The API as an ASGI application.

    Args:
        steering: What requests act on.
        token: What they must bring.
    """
    app = FastAPI(
        title="dualface", version=__version__, docs_url=None, redoc_url=None, openapi_url=OPENAPI
    )
    app.state.steering = steering
    app.state.token = token
    app.include_router(routes)
    app.add_route("/healthz", _health)
    app.add_route("/metrics", _metrics)
    app.add_route("/", serve_page)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(NoSuchStreamError, _on_known)
    app.add_exception_handler(ConflictError, _on_known)
    app.add_exception_handler(ConfigError, _on_known)
    app.add_exception_handler(NotSavedError, _on_not_saved)
    return Gate(app, token)


class ApiServer(ClosesAtExit):
    """Answers on threads of its own until it is closed; a context manager.

    Args:
        steering: What requests act on.
        token: What they must bring.
        settings: Where to listen, and with which certificate.

    Raises:
        UsageError: It cannot listen there, or the certificate cannot be used.
    """

    def __init__(self, steering: Steering, token: Token, settings: DaemonSettings) -> None:
        if (settings.tls_certificate_file is None) != (settings.tls_key_file is None):
            raise UsageError("--tls-certificate and --tls-key: give both, or neither of them")
        self._socket = _listening(settings)
        self._scheme = "https" if settings.tls_certificate_file else "http"
        config = uvicorn.Config(
            make_app(steering, token),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=1,
            limit_concurrency=_CONNECTIONS,
            ssl_certfile=settings.tls_certificate_file,
            ssl_keyfile=settings.tls_key_file,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            self._socket.close()
            raise UsageError(
                f"--tls-certificate {settings.tls_certificate_file}: {error}"
            ) from error
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="api", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self._socket.getsockname()[:2]
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    def close(self) -> None:
        """Answers what is being asked and ends; safe to call twice."""
        self._server.should_exit = True
        self._thread.join(_CLOSE_S)
        self._socket.close()


def _listening(settings: DaemonSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        raise UsageError(
            f"--port {settings.port}: cannot listen on {settings.host}:{settings.port} "
            f"({error.strerror}); choose another port; 0 picks a free one"
        ) from error
