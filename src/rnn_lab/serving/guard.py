"""The checks that every request passes, and the headers and metrics of every response."""

import hmac
import json
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rnn_lab.serving.metrics import Metrics

# Without a token: what a browser loads before it can send one, and a probe of a load balancer.
OPEN_PATHS = frozenset({"/", "/docs", "/openapi.json", "/health"})
OPEN_PREFIX = "/static/"
# No script, style or image of another host, none within the page, and no frame around it.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_SECURITY_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class RequestError(Exception):
    """A request that is refused: its status, one sentence, and further headers."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


class Guard:
    """ASGI middleware that refuses a request before its body is read, and observes the others."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Collection[str],
        max_body_bytes: int,
        metrics: Metrics,
    ) -> None:
        """Store the limits.

        Args:
            app: the application.
            token: the access token; None if none is needed.
            hosts: names that a Host header may have where there is no token.
            max_body_bytes: of one request.
            metrics: where requests are counted.
        """
        self._app = app
        self._token = None if token is None else token.encode()
        self._hosts = frozenset(host.lower() for host in (*_LOOPBACK_NAMES, *hosts))
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # uvicorn sends no body
            scope = {**scope, "method": "GET"}
        start, status = time.perf_counter(), 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
                if b"cache-control" not in given:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        try:
            try:
                self._check(scope)
            except RequestError as error:
                await send_error(observed_send, error)
            else:
                await self._app(scope, receive, observed_send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe_request(route, status, time.perf_counter() - start)

    def is_authorized(self, headers: dict[bytes, bytes]) -> bool:
        """Return whether a request has the token, or none is needed."""
        if self._token is None:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        is_equal = hmac.compare_digest(given.strip(), self._token)  # in constant time
        return scheme.lower() == b"bearer" and is_equal

    def _check(self, scope: Scope) -> None:
        headers = dict(scope["headers"])
        if self._token is None and _host_name(headers.get(b"host", b"")) not in self._hosts:
            # A page of another site whose name was pointed to 127.0.0.1 (DNS rebinding).
            raise RequestError(
                421, "this server has another name; allowed_hosts=[<name>] adds a name"
            )
        path: str = scope["path"]
        is_open = path in OPEN_PATHS or path.startswith(OPEN_PREFIX)
        scope["authorized"] = self.is_authorized(headers)
        if not is_open and not scope["authorized"]:
            raise RequestError(
                401,
                "needs the access token of this server: Authorization: Bearer <token>",
                {"WWW-Authenticate": "Bearer"},
            )
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 20 or int(length) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        if headers.get(b"content-encoding", b"identity").lower() not in (b"identity", b""):
            raise RequestError(415, "the body is compressed; send it without Content-Encoding")


def too_large(max_body_bytes: int) -> RequestError:
    """Return the error of a body that is too large."""
    return RequestError(413, f"the body is larger than {max_body_bytes:,} bytes")


def error_body(message: str) -> bytes:
    """Return the JSON of an error."""
    return json.dumps({"error": message}).encode()


async def send_error(send: Send, error: RequestError) -> None:
    """Send an error as a response."""
    body = error_body(error.message)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in error.headers.items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _host_name(host: bytes) -> str:
    """Return a Host header without its port."""
    name = host.decode("latin-1").lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]
