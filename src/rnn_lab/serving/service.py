"""What the routes of a server share: the runs, the bodies of requests, and the limits."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from pydantic import BaseModel, ValidationError

from rnn_lab.data.readers.records import text_error
from rnn_lab.errors import sanitize
from rnn_lab.serving.batcher import ClosedError
from rnn_lab.serving.config import ServeOptions
from rnn_lab.serving.explainer import Explainer
from rnn_lab.serving.guard import RequestError, too_large
from rnn_lab.serving.runs import ServedRun
from rnn_lab.validation import unknown_choice_message

MAX_FILES = 2  # labelled at the same time
JSON_TYPE = ("application/json",)
STOPS = "the server stops"
_RETRY_AFTER = {"Retry-After": "1"}  # seconds
_BODIES = 8  # of the largest size, in memory at the same time
_THREADS = 4  # that parse and write JSON, and read files
_SMALL_BODY = 2**16  # bytes; a larger one is parsed outside the event loop
Schema = TypeVar("Schema", bound=BaseModel)
Result = TypeVar("Result")


class Service:
    """What the routes share: the runs, the limits, and what is in use of them."""

    def __init__(self, options: ServeOptions, runs: Mapping[str, ServedRun]) -> None:
        self.options = options
        self.runs = runs
        self.explainer = Explainer()
        self._threads = CapacityLimiter(_THREADS)
        self._body_bytes = 0
        self.file_slots = MAX_FILES

    def run(self, name: str | None) -> ServedRun:
        """Return the run of that name; None: the first one."""
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            what = f"run: there is no run {sanitize(name, 100)!r}"
            raise RequestError(422, unknown_choice_message(what, name, list(self.runs)))
        return self.runs[name]

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return the result of a function that would take too long in the event loop."""
        return await to_thread.run_sync(function, *arguments, limiter=self._threads)

    async def read(self, request: Request, types: tuple[str, ...]) -> bytes:
        """Return the body of a request.

        Raises:
            RequestError: it is of another type, too large or too slow, or too many large ones
                arrive at the same time.
        """
        given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given not in types:
            raise RequestError(415, f"Content-Type: send {' or '.join(types)}")
        limit, held = self.options.max_body_bytes, 0
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self.options.timeout_s):
                async for part in request.stream():
                    held += len(part)
                    self._body_bytes += len(part)
                    if held > limit:
                        raise too_large(limit)
                    if self._body_bytes > _BODIES * limit:
                        raise busy("too many large requests arrive at the same time")
                    parts.append(part)
            return b"".join(parts)
        except TimeoutError:
            raise RequestError(408, "the body arrives too slowly") from None
        finally:
            self._body_bytes -= held

    async def read_json(self, request: Request, schema: type[Schema]) -> Schema:
        """Return the body of a request as a `schema`.

        Raises:
            RequestError: see `read`; or it is not valid JSON, or not of the schema.
        """
        content = await self.read(request, JSON_TYPE)
        try:
            if len(content) <= _SMALL_BODY:
                return schema.model_validate_json(content)
            return await self.in_thread(schema.model_validate_json, content)
        except ValidationError as error:
            raise invalid(error, schema) from None

    def check_text(self, text: str, name: str = "text") -> None:
        """Refuse a text that is empty, too long or not valid Unicode."""
        longest = self.options.max_text_length
        if len(text) > longest:
            raise RequestError(
                422, f"{name}: has {len(text):,} characters; at most {longest:,} are allowed"
            )
        if fault := text_error(text, "utf-8"):
            raise RequestError(422, f"{name}: {fault}")

    async def in_time(self, futures: list[Future[Any]]) -> list[Any]:
        """Return the results of `futures`, which are cancelled if they are not there in time."""
        try:
            async with asyncio.timeout(self.options.timeout_s):
                return await asyncio.gather(*map(asyncio.wrap_future, futures))
        except TimeoutError:
            raise RequestError(
                504,
                f"not answered within {self.options.timeout_s:g} s; send fewer or shorter texts",
            ) from None
        except ClosedError:
            raise busy(STOPS) from None
        finally:
            for future in futures:
                future.cancel()

    def close(self) -> bool:
        """Stop all threads; return whether they have ended."""
        for run in self.runs.values():
            run.batcher.close(timeout=5)
        return self.explainer.close(timeout=1)


def busy(reason: str) -> RequestError:
    """Return the error of a server that has too much to do."""
    return RequestError(503, f"{reason}; repeat the request later", _RETRY_AFTER)


def invalid(error: ValidationError, schema: type[BaseModel]) -> RequestError:
    """Return the error of a body that is not of a schema."""
    details = error.errors(include_url=False)
    if details[0]["type"] == "json_invalid":
        reason = str(details[0].get("ctx", {}).get("error", ""))
        return RequestError(400, f"the body is not valid JSON: {sanitize(reason)}")
    return RequestError(422, describe_errors(details, schema))


def describe_errors(details: Any, schema: type[BaseModel]) -> str:
    """Return the first of pydantic's errors with a body or query of `schema` as one sentence."""
    first = details[0]
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        what = f"{sanitize(name, 100)}: no such field"
        return unknown_choice_message(what, name, list(schema.model_fields))
    place = [part for part in first["loc"] if part not in ("body", "query")]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    reason = str(first.get("ctx", {}).get("error", first["msg"]))
    reason = f"{reason[:1].lower()}{reason[1:]}"
    return sanitize(f"{path.lstrip('.')}: {reason}" if path else reason)
