"""rnn-lab serve: load runs, and answer requests until the process is asked to stop."""

import os
import secrets
import socket
import sys
from typing import Any

from rnn_lab.errors import ConfigError
from rnn_lab.fast_import import fast_imports
from rnn_lab.plugins import require_extra
from rnn_lab.serving.config import ServeOptions
from rnn_lab.validation import AUTO, validate


def serve(options: dict[str, Any]) -> None:
    """Load the runs of `options`, and serve them until SIGINT or SIGTERM.

    Raises:
        UserError: an option or a run cannot be used, or the port is in use. Nothing was served.
    """
    checked = validate(ServeOptions, options)
    require_extra("serve", "rnn-lab serve")
    with fast_imports():
        from rnn_lab.serving.app import create_app
        from rnn_lab.serving.metrics import Metrics
        from rnn_lab.serving.runs import load_served_runs
        from rnn_lab.serving.server import run_server
        from rnn_lab.serving.service import Service

        metrics = Metrics()
        runs = load_served_runs(checked, metrics.observe_batch)  # which imports torch
    token, generated = checked.token, False
    if token == AUTO or (token is None and not checked.is_local):
        token, generated = secrets.token_urlsafe(24), True
    service = Service(checked, runs)
    app = create_app(checked, service, metrics, token)
    with bind(checked.host, checked.port) as listener:
        address = format_address(checked.host, listener.getsockname()[1])
        fragment = f"#token={token}" if generated else ""
        line = f"serving {', '.join(runs)} on {address}{fragment}"
        run_server(
            app,
            listener,
            max_connections=checked.max_connections,
            timeout=checked.timeout_s,
            on_start=lambda: print(line, flush=True),
        )
    print("stopped", flush=True)
    if not service.close():
        # An explanation is still being computed for a client that has been answered with 504.
        # Python would wait for it, or end while torch runs.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        ConfigError: the port is in use, or there is no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a valid name"
        raise ConfigError(f"host={host}: no such address: {reason}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port={port}: {host} port {port} cannot be used: {error.strerror}; choose another "
            "port, or port=0 for any free one"
        ) from None
    return listener


def format_address(host: str, port: int) -> str:
    """Return the URL of the page."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
