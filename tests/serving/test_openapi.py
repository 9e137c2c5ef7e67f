"""Requests that Schemathesis makes from the OpenAPI description find no fault of the server."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.serving.server import Server


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs schemathesis")
def test_requests_made_from_the_description_find_no_fault(server: Server, tmp_path):
    program = (sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json")
    # A text of control characters, or a file without a row, fits the schema and is refused.
    options = ("--exclude-checks", "positive_data_acceptance", "--seed", "1", "-n", "25")
    done = subprocess.run(
        [*program, *options, "--continue-on-failure"],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "100"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert server.metric("rnn_lab_requests_total") > 200
    assert server.get("/metrics").body.count(b'status="5') == 0
    assert server.errors() == ""
