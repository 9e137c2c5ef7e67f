"""uvicorn with limits on connections: their number, and the time that a slow client may take."""

import asyncio
import math
import signal
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rnn_lab.serving.guard import error_body

# At most the timeout of a request:
HEADER_SECONDS = 10.0  # for the headers of a request; then the connection is closed
LINGER_SECONDS = 5.0  # for the rest of a body after its response: closing at once could lose that
STALL_SECONDS = 30.0  # for a client that does not read its response
_GRACE_SECONDS = 0.25  # for requests that are on their way as the server stops
_KEEP_ALIVE_SECONDS = 15
_MAX_HEADER_BYTES = 2**16


def run_server(
    app: Any,
    listener: socket.socket,
    *,
    max_connections: int,
    timeout: float,
    on_start: Callable[[], None],
) -> None:
    """Serve `app` until SIGINT or SIGTERM; then answer the accepted requests, and return.

    Args:
        app: an ASGI application.
        listener: a bound socket.
        max_connections: open at the same time.
        timeout: seconds that accepted requests have left once the server stops. A client has no
            longer to send the headers of one.
        on_start: called when requests are accepted, and a signal stops the server.
    """

    class Protocol(BoundedProtocol):
        limit = max_connections
        header_seconds = min(HEADER_SECONDS, timeout)
        linger_seconds = min(LINGER_SECONDS, timeout)

    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(timeout) + 1,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )
    server = _Server(config, on_start)

    def stop(signum: int, frame: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal that has stopped it once more: this process ends with status 0.
    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run(sockets=[listener])
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()


class BoundedProtocol(H11Protocol):
    """One connection, which ends if its client is too slow."""

    limit = 256  # connections
    header_seconds = HEADER_SECONDS
    linger_seconds = LINGER_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None  # of a client that sends
        self._stalled: asyncio.TimerHandle | None = None  # of a client that does not read
        self._stopping = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or close it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            transport.abort()
            return
        self._watch(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read part of a request."""
        super().data_received(data)
        self._watch(self.header_seconds)
        if self._stopping and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._watch(self.linger_seconds)

    def shutdown(self) -> None:
        """Close the connection once its request, or one that is on its way, is answered."""
        self._stopping = True
        if self.transport.is_closing():
            return
        if self._is_idle:
            self.loop.call_later(_GRACE_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose client has not read its last response."""
        super().timeout_keep_alive_handler()
        self._abort_later()

    def pause_writing(self) -> None:
        """Wait for the client to read, for a limited time."""
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        """Continue to write."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        if not self._is_idle:  # a body that is not HTTP: its request is not answered
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = error_body("this is not a valid HTTP request")
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        try:
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # a response has begun already
            pass
        self.transport.close()
        self._abort_later()

    @property
    def _is_idle(self) -> bool:
        """Whether no request waits for its response."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self, seconds: float) -> None:
        """Set the time for what the client has to send; it is not prolonged by a few bytes."""
        if not self._is_idle and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif self._is_idle and self._deadline is None:
            self._deadline = self.loop.call_later(seconds, self._close_slow)

    def _close_slow(self) -> None:
        self._deadline = None
        if self._is_idle:
            self.transport.abort()

    def _close_if_idle(self) -> None:
        if self._is_idle and not self.transport.is_closing():
            super().shutdown()
            self._abort_later()

    def _abort_later(self) -> None:
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALL_SECONDS, self.transport.abort)
