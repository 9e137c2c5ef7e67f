"""A local server that answers what W&B's client asks to save a workspace and a report.

It is no part of W&B: it shows what the client sends, and how an answer is reported.
"""

import contextlib
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "0" * 40


class WandbServer(ThreadingHTTPServer):
    """Answers at `url`; keeps the paths of all requests, and the variables of saved views."""

    def __init__(self, projects: list[str] | None, *, refuses_reports: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.projects, self.refuses_reports = projects, refuses_reports
        self.paths: list[str] = []
        self.saved: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            if self.refuses_reports and variables["type"] == "runs":
                return {"errors": [{"message": "permission denied"}], "data": None}
            self.saved.append(variables)
            project = {"id": "p", "name": variables["projectName"], "entityName": "team"}
            names = ("type", "name", "displayName", "description", "spec")
            view = {name: variables[name] for name in names} | {
                "id": "Vmlldzox",
                "project": project,
            }
            return {"data": {"upsertView": {"view": view, "inserted": True}}}
        if "viewer" in query:
            viewer = {"id": "u", "entity": "team", "username": "me", "email": "", "flags": "{}"}
            return {"data": {"viewer": viewer | {"teams": {"edges": []}}}}
        if self.projects is None:
            return {"data": {"models": None}}
        nodes = [
            {"id": name, "name": name, "entityName": "team", "isBenchmark": False}
            | {"createdAt": "2026-01-01T00:00:00Z", "user": None}
            for name in self.projects
        ]
        edges = [{"cursor": "", "node": node} for node in nodes]
        page = {"endCursor": "", "hasNextPage": False}
        return {"data": {"models": {"edges": edges, "pageInfo": page}}}


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            answer = self.server.answer(asked["query"], asked.get("variables") or {})
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def wandb_server(
    projects: list[str] | None, *, refuses_reports: bool = False
) -> Iterator[WandbServer]:
    """Serve the projects of an entity; None: it has none that the account may see."""
    with WandbServer(projects, refuses_reports=refuses_reports) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
