"""The command `rnn-lab serve`: how it starts, what it refuses to start with, and how it stops."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rnn_lab import commands
from rnn_lab.errors import ConfigError
from rnn_lab.inference.onnx_export import export_onnx
from rnn_lab.serving.serve import bind
from tests.cli.forked import run_warm_command
from tests.cli.runner import command_environment
from tests.inference.untrained import untrained_run
from tests.serving.conftest import Start
from tests.serving.server import head, read_all, status_of


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run the command in this process, which does not start a server; return its one line."""

    def run(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["rnn-lab", "serve", *arguments])
        with pytest.raises(SystemExit) as end:
            commands.main()
        assert end.value.code == 1
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        return line

    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "error: run=null: give the folder of a finished run"),
        (("run=[]",), "error: run=[]: give the folder of a finished run"),
        (("run=[a,b,c,d,e]",), "error: run=['a', 'b', 'c', 'd', 'e']: 5 runs; at most 4"),
        (("run=nothing",), "error: nothing: no such run folder, .ckpt, .safetensors or .onnx file"),
        (("run=nothing.onnx",), "error: nothing.onnx: no such file"),
        (("run=.",), "error: .: no finished run"),
        (("run=a", "port=70000"), "error: port=70000: input should be less than or equal to 65535"),
        (("run=a", "port=web"), "error: port=web: "),
        (("run=a", "token=secret"), "error: token: needs at least 16 printable ASCII characters"),
        (("run=a", "timeout_s=0"), "error: timeout_s=0: "),
        (("run=a", "max_queue=10"), "error: max_queue=10: is below max_texts=1000"),
        (("run=a", "device=tpu"), "error: device=tpu: impossible value. Choose from: auto, cpu"),
        (("run=a", "prot=80"), "error: prot: no such option. Did you mean port?"),
    ],
)
def test_what_cannot_be_served_is_one_line(refused, arguments, line):
    assert refused(*arguments).startswith(line)


def test_a_short_token_of_the_environment_is_refused_and_not_printed(refused, monkeypatch):
    monkeypatch.setenv("RNN_LAB_TOKEN", "hunter2")
    line = refused("run=a")
    assert line.startswith("error: token: needs at least 16")
    assert "hunter2" not in line


def test_a_port_in_use_and_an_address_of_another_machine_are_one_line(tmp_path, mood_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ("serve", f"run={mood_run}", f"port={port}")
        done = run_warm_command("rnn_lab/commands.py", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(
            f"error: port={port}: 127.0.0.1 port {port} cannot be used: Address already in use; "
        )
    with pytest.raises(ConfigError, match=r"port=80: 192\.0\.2\.1 port 80 cannot be used"):
        bind("192.0.2.1", 80)
    with pytest.raises(ConfigError, match=r"host=a\.\.b: no such address"):
        bind("a..b", 80)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_an_idle_server(start: Start, mood_run, signum):
    server = start(f"run={mood_run}")
    assert server.printed() == f"serving run on {server.url}/\n"
    with server.connect() as silent, server.connect() as kept:
        kept.sendall(head("GET", "/health"))
        assert status_of(kept.recv(2**16)) == 200
        begin = time.monotonic()
        assert server.stop(signum) == 0
        assert time.monotonic() - begin < 5
        assert read_all(silent) == b""
    assert server.printed() == f"serving run on {server.url}/\nstopped\n"
    assert server.errors() == ""


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory) -> Path:
    """A file whose network takes milliseconds for a text."""
    content, _ = export_onnx(untrained_run(max_length=200, hidden_size=256), ["the film"])
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    path.write_bytes(content)
    return path


def test_an_onnx_file_is_served_without_torch(slow_model, tmp_path):
    code = (
        "import atexit, sys, rnn_lab.commands as commands\n"
        "atexit.register(lambda: print('imported:', *{*sys.modules} & {'torch', 'captum'}))\n"
        f"sys.argv = ['rnn-lab', 'serve', 'run={slow_model}', 'port=0']\n"
        "commands.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=command_environment(tmp_path), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        serving = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
    assert serving.startswith("serving slow on http://127.0.0.1:")
    assert rest == "stopped\nimported:\n"
    assert process.returncode == 0


def test_sigterm_under_load_answers_every_accepted_request(start: Start, slow_model):
    """Each request has a whole answer, or its connection is refused or closed without any."""
    server = start(f"run={slow_model}", "max_texts=300")
    body = json.dumps({"text": "the film was good " * 50})
    stopped = threading.Event()
    answers, refused, broken = [], [], []

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while True:
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            except (ConnectionError, http.client.CannotSendRequest):
                refused.append(1)
                return
            try:
                response = connection.getresponse()
                answers.append((response.status, response.read()))
            except (http.client.RemoteDisconnected, ConnectionResetError):
                (refused if stopped.is_set() else broken).append(1)
                return
            except Exception as error:
                broken.append(error)
                return

    def long() -> None:
        texts = ["the film was good " * 50] * 300
        longs.append(server.post("/predict", {"texts": texts}))

    longs: list = []
    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(answers) < 50:
        time.sleep(0.01)
    accepted = threading.Thread(target=long)
    accepted.start()
    while server.metric("rnn_lab_queue_texts") < 100:
        time.sleep(0.01)
    stopped.set()
    before = len(answers)
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 30
    for thread in (*threads, accepted):
        thread.join(60)
    assert longs[0].status == 200 and len(longs[0].json["predictions"]) == 300
    assert {status for status, _ in answers} == {200}
    assert all(json.loads(content)["predictions"] for _, content in answers)
    assert len(answers) > before  # those that were accepted as the signal came
    assert broken == []
    assert len(refused) == 8
    assert server.errors() == ""
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_the_time_to_stop_is_bounded(start: Start, slow_model):
    """A client that does not send its body, and one that does not read its response."""
    server = start(f"run={slow_model}", "timeout_s=1")
    # The response repeats the ids: it is larger than what the sockets hold of it.
    rows = b"id,text\n" + (b"x" * 4000 + b",the film\n") * 2000
    with server.connect() as half, server.connect() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        lines = ("Content-Length: 10", "Content-Type: application/json")
        half.sendall(head("POST", "/predict", *lines) + b"{")
        lines = (f"Content-Length: {len(rows)}", "Content-Type: text/csv")
        lazy.sendall(head("POST", "/predict_file", *lines) + rows)
        assert status_of(lazy.recv(100)) == 200
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < 15
        received = read_all(lazy)
    assert not received.endswith(b"0\r\n\r\n")  # the client sees that the end is missing
    assert server.printed().endswith("stopped\n")


def test_two_files_are_labelled_at_a_time(start: Start, slow_model):
    server = start(f"run={slow_model}")
    rows = b"text\n" + b"the film\n" * 50_000
    lines = (f"Content-Length: {len(rows)}", "Content-Type: text/csv")

    def upload() -> socket.socket:
        connection = server.connect()
        connection.sendall(head("POST", "/predict_file", *lines) + rows)
        return connection

    def one() -> int:
        return server.ask(
            "POST", "/predict_file", b"text\nfilm\n", {"Content-Type": "text/csv"}
        ).status

    first, second = upload(), upload()
    assert status_of(first.recv(100)) == status_of(second.recv(100)) == 200
    assert one() == 503
    assert server.post("/predict", {"text": "the film"}).status == 200  # beside the files
    first.close()
    until = time.monotonic() + 60
    while (status := one()) == 503 and time.monotonic() < until:
        time.sleep(0.05)
    assert status == 200
    second.close()
    assert server.stop() == 0


@pytest.mark.slow
def test_clients_that_send_a_byte_now_and_then_are_closed(start: Start, mood_run):
    server = start(f"run={mood_run}", "timeout_s=2")  # a client has 10 s by default
    beginnings = (
        b"",  # of a request that never begins
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ",
        head("GET", "/health") + b"GET /health HTTP/1.1\r\nHost: ",  # after an answered one
        head("POST", "/predict", "Content-Length: 999999999"),  # after an answer of 413
    )
    connections = [server.connect() for _ in beginnings]
    for connection, beginning in zip(connections, beginnings, strict=True):
        connection.sendall(beginning)
        connection.settimeout(0.01)
    begin, is_open = time.monotonic(), dict.fromkeys(connections, True)
    while any(is_open.values()) and time.monotonic() - begin < 40:
        time.sleep(0.2)
        for connection, beginning in zip(connections, beginnings, strict=True):
            try:
                if beginning:
                    connection.sendall(b"a")
                is_open[connection] &= connection.recv(2**16) != b""
            except TimeoutError:
                pass
            except OSError:
                is_open[connection] = False
    assert not any(is_open.values())
    assert time.monotonic() - begin < 12
    assert server.get("/health").status == 200
    assert server.stop() == 0
    assert server.errors() == ""
