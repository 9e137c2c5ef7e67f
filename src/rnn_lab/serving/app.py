"""The routes of a server: predictions, explanations, labelled files, health and metrics."""

import functools
import mimetypes
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from rnn_lab import __version__
from rnn_lab.errors import ConfigError, DataError
from rnn_lab.serving.answers import explanation_json, predictions_json
from rnn_lab.serving.batcher import ClosedError, QueueFullError
from rnn_lab.serving.config import ServeOptions
from rnn_lab.serving.docs_page import render_docs
from rnn_lab.serving.guard import Guard, RequestError, error_body
from rnn_lab.serving.metrics import CONTENT_TYPE, Metrics
from rnn_lab.serving.runs import ServedRun
from rnn_lab.serving.schemas import (
    ErrorResponse,
    ExplainRequest,
    ExplainResponse,
    HealthResponse,
    Limits,
    PredictFileQuery,
    PredictRequest,
    PredictResponse,
    RunsResponse,
)
from rnn_lab.serving.service import MAX_FILES, STOPS, Service, busy, describe_errors
from rnn_lab.serving.uploads import labelled_csv

STATIC = Path(__file__).parent / "static"

_TEXT_FORMATS = (
    *("text/csv", "text/tab-separated-values", "text/plain", "application/octet-stream"),
    *("application/x-ndjson", "application/jsonl"),
)
_ERRORS = {
    400: "not valid JSON",
    401: "no access token",
    408: "the body arrives too slowly",
    413: "the body is too large",
    415: "another Content-Type",
    422: "a wrong value",
    503: "too many requests; repeat it later",
    504: "not answered in time",
}
_BODY_ERRORS = (408, 413, 415, 422, 503, 504)


class LabelledFile(StreamingResponse):
    """A table that is sent while it is computed."""

    def __init__(self, service: Service, first: bytes, rest: Iterator[bytes]) -> None:
        super().__init__(
            chain([first], rest),
            media_type="text/csv",
            headers={"Content-Disposition": 'attachment; filename="predictions.csv"'},
        )
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the table, which breaks off where the file or the server ends it."""
        try:
            await super().__call__(scope, receive, send)
        except* (ClosedError, DataError):
            pass  # uvicorn closes the connection: the client sees that the end is missing
        finally:
            self._service.file_slots += 1


def create_app(
    options: ServeOptions, service: Service, metrics: Metrics, token: str | None
) -> Guard:
    """Return the application. `token` is the access token; None if none is needed."""
    bearer = [Depends(HTTPBearer(auto_error=False))] if token else []
    app = FastAPI(
        title="RNN Lab",
        version=__version__,
        description="Predictions and explanations of trained text classifiers.",
        docs_url=None,
        redoc_url=None,
    )
    add_api(app, service, metrics, bearer, (401,) if token else ())
    add_pages(app)
    add_error_handlers(app)
    guard = Guard(
        app,
        token=token,
        hosts=(options.host, *options.allowed_hosts),
        max_body_bytes=options.max_body_bytes,
        metrics=metrics,
    )
    metrics.watch_queues({name: queue_length(run) for name, run in service.runs.items()})
    return guard


def responses(*statuses: int, **ok: Any) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route for its description; `ok` describes its answer."""
    found: dict[int | str, dict[str, Any]] = {200: ok} if ok else {}
    for status in statuses:
        found[status] = {"model": ErrorResponse, "description": _ERRORS[status]}
    return found


def queue_length(run: ServedRun) -> Callable[[], int]:
    """Return a function that returns the length of the queue of a run."""
    return lambda: run.batcher.waiting


def add_api(
    app: FastAPI, service: Service, metrics: Metrics, bearer: list[Any], always: tuple[int, ...]
) -> None:
    """Add the routes of the API; `bearer` and `always` describe the access token, if any."""
    options = service.options
    limits = {name: getattr(options, name) for name in Limits.model_fields}

    @app.get("/health", response_model=HealthResponse)
    async def health(request: Request) -> dict[str, Any]:
        """Return whether the server accepts requests, and the runs that it has."""
        runs = [
            {"name": name, "classes": run.predictor.class_names}
            for name, run in service.runs.items()
        ]
        return {"status": "ready", "runs": runs if request.scope["authorized"] else None}

    @app.get(
        "/runs", response_model=RunsResponse, dependencies=bearer, responses=responses(*always)
    )
    async def runs() -> dict[str, Any]:
        """Return the runs with their classes, metrics and options, and the limits of requests."""
        about = [run.about for run in service.runs.values()]
        return {"version": __version__, "limits": limits, "runs": about}

    def post(path: str, request: type[BaseModel], response: type[BaseModel]) -> Callable[..., Any]:
        return app.post(
            path,
            response_model=response,
            dependencies=bearer,
            openapi_extra=json_body(request, service),
            responses=responses(400, *always, *_BODY_ERRORS),
        )

    @post("/predict", PredictRequest, PredictResponse)
    async def predict(request: Request) -> Response:
        """Label one text or several, in one batch with those of concurrent requests."""
        asked = await service.read_json(request, PredictRequest)
        run, texts = service.run(asked.run), asked.all_texts
        if not texts:
            raise RequestError(422, "texts: is empty; give one text or more")
        if len(texts) > options.max_texts:
            raise RequestError(
                422, f"texts: has {len(texts):,} texts; at most {options.max_texts:,} are allowed"
            )
        for position, text in enumerate(texts):
            service.check_text(text, "text" if asked.texts is None else f"texts[{position}]")
        try:
            futures = run.batcher.submit(texts)
        except QueueFullError:
            raise busy("too many texts wait for the model") from None
        except ClosedError:
            raise busy(STOPS) from None
        parts = await service.in_time(futures)
        return json_response(await service.in_thread(predictions_json, run, parts))

    @post("/explain", ExplainRequest, ExplainResponse)
    async def explain(request: Request) -> Response:
        """Explain the prediction for one text: words, gates, and the prediction word by word."""
        asked = await service.read_json(request, ExplainRequest)
        run = service.run(asked.run)
        if not run.predictor.can_explain:
            raise RequestError(
                422, f"run: {run.name} is an .onnx file, which only predicts; serve the run folder"
            )
        service.check_text(asked.text)
        try:
            future = service.explainer.submit(lambda: explanation_json(run, asked))
        except QueueFullError:
            raise busy("too many explanations wait") from None
        (answer,) = await service.in_time([future])
        return json_response(answer)

    @app.post(
        "/predict_file",
        dependencies=bearer,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": {"type": "string"}} for kind in _TEXT_FORMATS},
            }
        },
        response_class=Response,
        responses=responses(
            *(*always, *_BODY_ERRORS), content={"text/csv": {"schema": {"type": "string"}}}
        ),
    )
    async def predict_file(
        request: Request,
        query: Annotated[PredictFileQuery, Query()],
    ) -> Response:
        """Label each row of a file; the answer is CSV with the columns of the file."""
        served = service.run(query.run)
        if not service.file_slots:
            raise busy(f"{MAX_FILES} files are being labelled")
        service.file_slots -= 1
        try:
            parts = labelled_csv(
                served.queued(),
                await service.read(request, _TEXT_FORMATS),
                format=query.format,
                text_column=column_of(query.text_column),
                max_text_length=options.max_text_length,
                batch_size=options.max_batch_size,
            )
            first = await service.in_thread(next, parts, b"")
        except BaseException as error:
            service.file_slots += 1
            if isinstance(error, DataError | ConfigError):
                raise RequestError(422, str(error)) from None
            if isinstance(error, ClosedError):
                raise busy(STOPS) from None
            raise
        return LabelledFile(service, first, parts)

    @app.get(
        "/metrics",
        dependencies=bearer,
        response_class=Response,
        responses=responses(*always, content={"text/plain": {"schema": {"type": "string"}}}),
    )
    async def metrics_text() -> Response:
        """Return counters and histograms in the text format of Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)


def add_pages(app: FastAPI) -> None:
    """Add the page, the documentation of the API, and their files."""
    files = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.is_file()}
    docs = functools.cache(lambda: render_docs(app.openapi()).encode())

    def page(name: str) -> Response:
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return page("index.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static_file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404)
        return page(name)

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> Response:
        return Response(docs(), media_type="text/html", headers={"Cache-Control": "no-cache"})


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error with one sentence as JSON."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return json_response(error_body(error.message), error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid_query(request: Request, error: RequestValidationError) -> Response:
        return json_response(error_body(describe_errors(error.errors(), PredictFileQuery)), 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        message = {
            404: "no such path; /docs lists what there is",
            405: f"{request.method} is not possible here; /docs lists what is",
        }.get(error.status_code, error.detail)
        headers = dict(error.headers or {})
        return json_response(error_body(message), error.status_code, headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        message = "an error of the server, which its log describes"
        return json_response(error_body(message), 500)


def json_response(
    content: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON that is encoded already."""
    return Response(content, status, headers, media_type="application/json")


def json_body(schema: type[BaseModel], service: Service) -> dict[str, Any]:
    """Return the entry of a request body in the OpenAPI description, with the server's limits."""
    described = schema.model_json_schema()
    text = {"type": "string", "pattern": r"\S", "maxLength": service.options.max_text_length}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": service.options.max_texts}
    run = {"type": "string", "enum": list(service.runs)}
    for name, limited in {"text": text, "texts": texts, "run": run}.items():
        if (field := described["properties"].get(name)) is None:
            continue
        if "anyOf" in field:  # may be null
            field["anyOf"] = [limited, {"type": "null"}]
        else:
            field |= limited
    content = {"application/json": {"schema": described}}
    return {"requestBody": {"required": True, "content": content}}


def column_of(name: str | None) -> str | int | None:
    """Return the name of a column, or its number."""
    return int(name) if name is not None and name.isascii() and name.isdecimal() else name
