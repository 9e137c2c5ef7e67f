"""rnn-lab serve, asked over HTTP: predictions, explanations, files, and what it refuses."""

import csv
import io
import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.commands import export
from rnn_lab.inference.explanation import explain_text
from rnn_lab.inference.load import load_model
from rnn_lab.inference.onnx_export import export_onnx
from rnn_lab.inference.predict import predict
from rnn_lab.serving.uploads import labelled_csv
from tests.inference.untrained import untrained_run
from tests.serving.conftest import Start
from tests.serving.server import Answer, Server, head, read_all, read_error, status_of

TEXTS = [
    "a lovely film",
    "an awful film, then a passable scene",
    "lovely " * 2800,
    "fi\u0301lm 🎬 فيلم رائع <b>awful</b>",
    "x",
]


@pytest.fixture(scope="module")
def run(mood_run: Path):
    return load_model(mood_run)


@pytest.fixture(scope="module")
def expected(mood_run: Path, tmp_path_factory) -> dict[str, dict]:
    """What `rnn-lab predict` writes for each of many texts."""
    draw = random.Random(1)
    words = ["the", "film", "was", "lovely", "awful", "passable", "scene", "not"]
    made = {" ".join(draw.choices(words, k=draw.randint(1, 60))) for _ in range(150)}
    folder = tmp_path_factory.mktemp("expected")
    rows = [{"text": text} for text in (*TEXTS, *sorted(made))]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = folder / "out.jsonl"
    predict({"run": str(mood_run), "input": str(folder / "in.jsonl"), "output": str(output)})
    lines = map(json.loads, output.read_text().splitlines())
    return {row.pop("text"): row for row in lines}


def assert_equal(prediction: dict, expected: dict) -> None:
    assert prediction["label"] == expected["label"]
    assert prediction["labels"] == [expected["label"]]
    assert list(prediction["probabilities"]) == list(expected["probabilities"])
    assert prediction["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)


def test_one_text_and_several_are_predicted_as_by_the_command(server: Server, expected, run):
    one = server.post("/predict", {"text": TEXTS[0]})
    assert one.status == 200
    assert one.json["run"] == "run" and one.json["task"] == "multiclass"
    assert tuple(one.json["classes"]) == run.class_names
    (prediction,) = one.json["predictions"]
    assert_equal(prediction, expected[TEXTS[0]])
    every = server.post("/predict", {"texts": list(expected), "run": "run"}).json["predictions"]
    for prediction, wanted in zip(every, expected.values(), strict=True):
        assert_equal(prediction, wanted)


def test_concurrent_requests_share_batches_and_each_has_its_own_answer(server: Server, expected):
    texts, batches = list(expected)[len(TEXTS) :] * 3, "rnn_lab_batch_texts"
    before = server.metric(f"{batches}_count"), server.metric(f"{batches}_sum")
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda text: server.post("/predict", {"text": text}), texts))
    for text, answer in zip(texts, answers, strict=True):
        (prediction,) = answer.json["predictions"]
        assert_equal(prediction, expected[text])
    assert server.metric(f"{batches}_sum") - before[1] == len(texts)
    assert server.metric(f"{batches}_count") - before[0] < len(texts) / 2
    assert server.metric("rnn_lab_queue_texts") == 0


def test_an_explanation_is_that_of_the_command(server: Server, run):
    text = "a lovely film, then an awful qwertz scene " + "the " * 5
    wanted = explain_text(run, text, "bad")
    answer = server.post("/explain", {"text": text, "label": "bad", "units": 3})
    assert answer.status == 200
    found = answer.json
    assert (found["explained"], found["label"]) == ("bad", wanted.prediction)
    for word, expected_word in zip(found["words"], wanted.words, strict=True):
        assert word["text"] == expected_word.text
        assert word["known"] == expected_word.known
        assert word["attribution"] == pytest.approx(expected_word.attribution, abs=1e-5)
        assert word["read"] == (expected_word.start < expected_word.stop)
        last = wanted.prefix_probabilities[expected_word.stop - 1]
        assert word["probabilities"] == pytest.approx(last, abs=1e-6)
    after = np.array(found["prefix_probabilities"])
    np.testing.assert_allclose(after, wanted.prefix_probabilities, atol=1e-6)
    assert found["probabilities"] == dict(zip(found["classes"], after[-1], strict=True))
    assert sum(found["token_attributions"]) == pytest.approx(found["completeness"]["sum"])
    assert found["completeness"]["relative_error"] < 0.01
    assert len(found["gates"]) == len(wanted.states)
    for gate in found["gates"]:
        direction = "backward" if gate["backward"] else "forward"
        values = wanted.states[f"{gate['layer']}_{direction}_{gate['key']}"]
        np.testing.assert_allclose(gate["mean"], values.mean(axis=1), atol=1e-4)
        np.testing.assert_allclose(gate["values"], values[:, gate["units"]], atol=1e-4)
        assert len(gate["units"]) == 3
        assert all(a <= b for a, b in zip(gate["low"], gate["high"], strict=True))
    by_default = server.post("/explain", {"text": text}).json
    assert by_default["explained"] == wanted.prediction
    assert by_default["gates"][0]["values"] is None


def csv_of(*rows: tuple[str, ...]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue().encode()


def test_a_file_is_labelled_as_by_the_command(server: Server, mood_run: Path, tmp_path, expected):
    rows = [("id", "body", "label"), *((f"n{i}", text, "?") for i, text in enumerate(expected))]
    content = csv_of(*rows, ("empty", " ", "?"), ("last", "a lovely film"))
    (tmp_path / "in.csv").write_bytes(content)
    output = tmp_path / "out.csv"
    options = {"input": str(tmp_path / "in.csv"), "text_column": "body", "batch_size": 64}
    predict({"run": str(mood_run), "output": str(output)} | options)
    path = "/predict_file?text_column=body"
    answer = server.ask("POST", path, content, {"Content-Type": "text/csv"})
    assert answer.status == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="predictions.csv"'
    found, wanted = (list(csv.reader(io.StringIO(text.decode()))) for text in (
        answer.body, output.read_bytes()
    ))  # fmt: skip
    assert [row[:5] for row in found] == [row[:5] for row in wanted]
    assert found[-2][-1] == "empty text" and found[-1][-1].startswith("2 columns")
    for row, expected_row in zip(found[1:-2], wanted[1:-2], strict=True):
        numbers, expected_numbers = (list(map(float, r[5:8])) for r in (row, expected_row))
        assert numbers == pytest.approx(expected_numbers, abs=1e-6)


@pytest.mark.parametrize(
    ("path", "content", "lines"),
    [
        ("?format=jsonl", b'{"text": "awful"}\n{"text": ""}\n{"t', ["bad", "", ""]),
        ("?format=txt", b"awful\nlovely", ["bad", "good"]),
        ("?format=tsv", b"n\ttext\n1\tawful\n", ["bad"]),
        ("?text_column=1", b"1,awful\n2,lovely\n", ["bad", "good"]),
        ("", "id;text\n1;an awful café\n".encode("cp1252"), ["bad"]),
        ("", b"text\n" + b"awful " * 4000 + b"\nawful\n", ["", "bad"]),  # too long
    ],
)
def test_files_of_other_formats_are_read(server: Server, path, content, lines):
    answer = server.ask("POST", f"/predict_file{path}", content, {"Content-Type": "text/csv"})
    assert answer.status == 200, answer.body
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert [row["label"] for row in rows] == lines
    assert all(bool(row["error"]) == (row["label"] == "") for row in rows)


def test_the_table_of_an_upload_has_commas_whatever_the_file_has():
    content = "\ufefftext;n\na good film;1\n".encode()
    options = {"text_column": None, "max_text_length": 100, "batch_size": 8}
    answer = b"".join(labelled_csv(untrained_run(), content, format="csv", **options))
    assert answer.decode().startswith("line,id,text,n,label,")


def test_the_facts_of_the_server(server: Server, mood_run: Path, run):
    assert server.get("/health").json == {
        "status": "ready",
        "runs": [{"name": "run", "classes": list(run.class_names)}],
    }
    about = server.get("/runs").json
    result = json.loads((mood_run / "result.json").read_text())
    (one,) = about["runs"]
    assert one["metrics"]["test/accuracy"] == result["test/accuracy"]
    assert one["config"]["model.hidden_size"] == 16
    assert one["explains"] and one["task"] == "multiclass"
    assert about["limits"]["max_texts"] == 1000
    assert (about["limits"]["max_queue"], about["limits"]["max_connections"]) == (2000, 256)
    assert str(mood_run.parent) not in json.dumps(about)  # nor any other path


NESTED = b"[" * 100_000
LONG = "x" * 20_001
REFUSED = [
    ("/predict", b"", 400, "not valid JSON"),
    ("/predict", b'{"text": "a', 400, "not valid JSON"),
    ("/predict", b"\xff\xfe", 400, "not valid JSON"),
    ("/predict", b'{"text": "\\ud800"}', 400, "not valid JSON"),
    ("/predict", b'{"text": "\xed\xa0\x80"}', 400, "not valid JSON"),
    ("/predict", NESTED, 400, "not valid JSON"),
    ("/predict", b'{"text": ' + NESTED, 400, "not valid JSON"),
    ("/predict", b"[]", 422, "input should be an object"),
    ("/predict", b"null", 422, "input should be an object"),
    ("/predict", {}, 422, "give one of `text` and `texts`"),
    ("/predict", {"text": "a", "texts": ["a"]}, 422, "give one of `text` and `texts`"),
    ("/predict", {"txt": "a"}, 422, "txt: no such field. Did you mean text?"),
    ("/predict", {"text": ""}, 422, "text: empty text"),
    ("/predict", {"text": " \n"}, 422, "text: empty text"),
    ("/predict", {"text": 5}, 422, "text: input should be a valid string"),
    ("/predict", {"text": ["a"]}, 422, "text: input should be a valid string"),
    ("/predict", {"text": "a\0b"}, 422, "NUL"),
    ("/predict", {"text": LONG}, 422, "text: has 20,001 characters; at most 20,000 are allowed"),
    ("/predict", {"texts": []}, 422, "texts: is empty"),
    ("/predict", {"texts": "a"}, 422, "texts: input should be a valid array"),
    ("/predict", {"texts": ["a", None]}, 422, "texts[1]: input should be a valid string"),
    ("/predict", {"texts": ["a", ""]}, 422, "texts[1]: empty text"),
    ("/predict", {"texts": ["a"] * 1001}, 422, "has 1,001 texts; at most 1,000 are allowed"),
    ("/predict", {"text": "a", "run": "../run"}, 422, "there is no run '../run'"),
    ("/explain", {"text": "a", "label": "nice"}, 422, "label=nice: is no class of the run"),
    ("/explain", {"text": "a", "units": 10**9}, 422, "units: "),
    ("/explain", {"text": "a", "units": True}, 422, "units: "),
    ("/explain", {"texts": ["a"]}, 422, "text"),
    ("/explain", {"text": ""}, 422, "text: empty text"),
]


@pytest.mark.parametrize(
    ("path", "content", "status", "message"), REFUSED, ids=map(str, range(len(REFUSED)))
)
def test_a_wrong_body_is_refused_in_one_sentence(server: Server, path, content, status, message):
    answer = server.post(path, content)
    assert answer.status == status
    assert message in answer.error
    assert len(answer.error) < 300
    assert server.post("/predict", {"text": "a"}).status == 200


CSV = {"Content-Type": "text/csv"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "message"),
    [
        ("POST", "/predict_file", b"", CSV, 422, "the file: contains no text"),
        ("POST", "/predict_file", b"a,b\n1,2\n", CSV, 422, "set text_column to one of: a, b"),
        (
            "POST",
            "/predict_file",
            b"text" + b",a" * 1000 + b"\n",
            CSV,
            422,
            "more than 1,000 columns",
        ),
        ("POST", "/predict_file?text_column=z", b"a,b\nx,y\n", CSV, 422, "'z'"),
        ("POST", "/predict_file?format=parquet", b"PAR1", CSV, 422, "format: "),
        ("POST", "/predict_file?runs=no", b"text\na\n", CSV, 422, "runs: no such field. Did you"),
        ("POST", "/predict_file?run=no", b"text\na\n", CSV, 422, "there is no run 'no'"),
        ("POST", "/predict_file", b"text\na\n", JSON, 415, "text/csv"),
        ("POST", "/predict", b'{"text": "a"}', {"Content-Type": "text/plain"}, 415, "json"),
        ("POST", "/predict", b'{"text": "a"}', {}, 415, "application/json"),
        ("POST", "/predict", b"\x1f\x8b", JSON | {"Content-Encoding": "gzip"}, 415, "compressed"),
        ("GET", "/predict", None, {}, 405, "GET is not possible"),
        ("DELETE", "/health", None, {}, 405, "DELETE"),
        ("GET", "/nothing", None, {}, 404, "no such path"),
        ("GET", "/static/../app.py", None, {}, 404, "no such path"),
        ("GET", "/static/%2e%2e%2fapp.py", None, {}, 404, "no such path"),
        ("GET", "/static/..%5capp.py", None, {}, 404, "no such path"),
        ("GET", "/static//etc/passwd", None, {}, 404, "no such path"),
        ("GET", "/static/docs.css%00.html", None, {}, 404, "no such path"),
        ("GET", "/health", None, {"Host": "evil.example"}, 421, "another name"),
        ("GET", "/health", None, {"Host": "127.0.0.1.evil.example:80"}, 421, "another name"),
        (
            "GET",
            "/health",
            None,
            {"Host": "evil.example", "X-Forwarded-Host": "localhost"},
            421,
            "",
        ),
    ],
)
def test_other_requests_are_refused(server: Server, method, path, body, headers, status, message):
    answer = server.ask(method, path, body, headers)
    assert answer.status == status, answer.body
    assert message in answer.error
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_head_is_get_without_a_body(server: Server):
    for path in ("/health", "/", "/metrics"):
        answer = server.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["content-type"] == server.get(path).headers["content-type"]
    assert server.ask("HEAD", "/predict").status == 405


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "[::1]:8000", "127.0.0.1"])
def test_names_of_this_machine_are_accepted(server: Server, host):
    assert server.get("/health", Host=host).status == 200


def test_every_answer_forbids_what_is_not_the_page_s_own(server: Server):
    for path in ("/", "/docs", "/health", "/nothing", "/static/docs.css", "/openapi.json"):
        headers = server.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'se")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    answer = server.get("/health", Origin="https://evil.example")
    assert "access-control-allow-origin" not in answer.headers


def test_the_documentation_describes_every_route_and_loads_nothing_from_elsewhere(server: Server):
    openapi = server.get("/openapi.json").json
    assert set(openapi["paths"]) == {
        *("/health", "/runs", "/predict", "/explain", "/predict_file", "/metrics"),
    }
    page = server.get("/docs").body.decode()
    for path in openapi["paths"]:
        assert f"<code>{path}</code>" in page
    assert "words[].attribution" in page
    addresses = page.split("http")[1:]
    assert all(address.startswith("://127.0.0.1:8000/") for address in addresses)
    assert "<script" not in page
    assert server.get("/static/docs.css").headers["content-type"].startswith("text/css")


def test_a_large_body_is_refused_before_it_is_sent(server: Server):
    def refuse(length: str) -> bytes:
        lines = (f"Content-Length: {length}", "Content-Type: application/json")
        with server.connect() as connection:
            connection.sendall(head("POST", "/predict", *lines))
            return read_error(connection)

    answer = refuse("10000000")
    assert status_of(answer) == 413
    assert answer.endswith(b'{"error": "the body is larger than 8,388,608 bytes"}')
    for length in ("9" * 30, "-1", "0x10"):
        assert status_of(refuse(length)) in (400, 413)


def test_a_large_body_does_not_grow_the_memory(server: Server):
    def refuse(chunked: bool) -> None:
        if not chunked:
            assert server.post("/predict", b" " * 10_000_000).status == 413
            return
        lines = ("Transfer-Encoding: chunked", "Content-Type: application/json")
        chunk = b"%x\r\n%s\r\n" % (2**16, b" " * 2**16)
        with server.connect() as connection:
            connection.sendall(head("POST", "/predict", *lines))
            for _ in range(160):
                connection.sendall(chunk)
            connection.sendall(b"0\r\n\r\n")
            assert status_of(connection.recv(2**16)) == 413

    for chunked in (False, True):
        refuse(chunked)
    before = server.metric("process_resident_memory_bytes")
    for _ in range(6):
        refuse(True)
        refuse(False)
    assert server.metric("process_resident_memory_bytes") - before < 24 * 2**20


@pytest.mark.parametrize(
    "request_",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100 + b"\r\n\r\n",  # TLS
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 2_000_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 300_000 + b"\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=lambda request: str(request[:12]),
)
def test_what_is_not_http_is_refused(server: Server, request_):
    answer = server.raw(request_)
    assert answer == b"" or status_of(answer) in (400, 415, 501), answer
    assert server.get("/health").status == 200
    assert "Traceback" not in server.errors()


def test_a_client_that_leaves_in_the_middle_harms_nobody(server: Server):
    body = json.dumps({"texts": ["a lovely film"] * 900}).encode()
    lines = (f"Content-Length: {len(body)}", "Content-Type: application/json")
    for part in (body[:100], body):
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(head("POST", "/predict", *lines) + part)
    assert server.post("/predict", {"text": "a lovely film"}).status == 200
    assert "Traceback" not in server.errors()


def test_requests_on_one_connection_are_answered_in_order(server: Server):
    texts = ["a lovely film", "an awful film", "passable"]
    requests = b""
    for text, last in zip(texts, (False, False, True), strict=True):
        body = json.dumps({"text": text})
        lines = [f"Content-Length: {len(body)}", "Content-Type: application/json"]
        lines += ["Connection: close"] if last else []
        requests += head("POST", "/predict", *lines) + body.encode()
    answers = server.raw(requests)
    labels = [part.split('"')[3] for part in answers.decode().split('"predictions"')[1:]]
    assert labels == ["good", "bad", "so so"]


# ---- Two runs, one of them an .onnx file


@pytest.fixture(scope="module")
def two(start: Start, mood_run: Path, tmp_path_factory) -> Server:
    model = tmp_path_factory.mktemp("onnx") / "run.onnx"
    export([f"run={mood_run}", f"output={model}"])
    return start(f"run=[{mood_run},{model}]")


def test_two_runs_are_served_under_their_names(two: Server):
    runs = two.get("/runs").json["runs"]
    assert [run["name"] for run in runs] == ["run", "run.onnx"]
    assert [run["explains"] for run in runs] == [True, False]
    answers = [
        two.post("/predict", {"text": "a lovely film", "run": name}).json
        for name in ("run", "run.onnx")
    ]
    assert [answer["run"] for answer in answers] == ["run", "run.onnx"]
    first, second = (answer["predictions"][0]["probabilities"] for answer in answers)
    assert first == pytest.approx(second, abs=1e-5)


def test_an_onnx_file_predicts_and_does_not_explain(two: Server):
    answer = two.post("/explain", {"text": "a lovely film", "run": "run.onnx"})
    assert answer.status == 422
    assert (
        answer.error == "run: run.onnx is an .onnx file, which only predicts; serve the run folder"
    )
    path = "/predict_file?run=run.onnx"
    labelled = two.ask("POST", path, b"text\nan awful film\n", CSV)
    assert labelled.body.decode().splitlines()[1].split(",")[3] == "bad"


# ---- An access token

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def locked(start: Start, mood_run: Path) -> Server:
    return start(f"run={mood_run}", "host=0.0.0.0", env={"RNN_LAB_TOKEN": TOKEN})


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}",
              "Bearer \xff\xfe", f"Bearer {TOKEN},{TOKEN}"],
)  # fmt: skip
def test_without_the_token_nothing_is_answered(locked: Server, given):
    headers = {} if given is None else {"Authorization": given}
    for path in ("/runs", "/metrics", "/nothing"):
        answer = locked.get(path, **headers)
        assert answer.status == 401
        assert "Authorization: Bearer" in answer.error
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/predict", "/explain", "/predict_file"):
        assert locked.post(path, {"text": "a"}, **headers).status == 401
    assert locked.get("/health", **headers).json == {"status": "ready", "runs": None}
    assert locked.get("/docs", **headers).status == 200


def test_with_the_token_everything_is_answered(locked: Server):
    for scheme in ("Bearer", "bearer"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert locked.post("/predict", {"text": "a"}, **headers).status == 200
    headers |= {"Host": "any.example"}  # a page of another site has no token
    assert locked.get("/health", **headers).json["runs"][0]["name"] == "run"
    assert "401" in locked.get("/openapi.json").json["paths"]["/predict"]["post"]["responses"]


def test_the_token_is_neither_printed_nor_in_the_process_table(locked: Server):
    command = Path(f"/proc/{locked.process.pid}/cmdline").read_bytes()
    assert TOKEN.encode() not in command
    assert TOKEN not in locked.printed() + locked.errors()
    assert locked.fragment == ""


def test_a_server_that_others_can_reach_generates_a_token(start: Start, mood_run: Path):
    server = start(f"run={mood_run}", "host=0.0.0.0")
    token = server.fragment.removeprefix("#token=")
    assert len(token) >= 32
    assert server.get("/runs").status == 401
    assert server.get("/runs", Authorization=f"Bearer {token}").status == 200
    assert server.stop() == 0


# ---- Limits


@pytest.fixture(scope="module")
def tight(start: Start, tmp_path_factory) -> Server:
    slow = tmp_path_factory.mktemp("slow") / "slow.onnx"
    content, _ = export_onnx(untrained_run(max_length=400, hidden_size=512), ["the film"])
    slow.write_bytes(content)
    limits = ("timeout_s=1", "max_texts=400", "max_queue=400", "max_connections=30")
    return start(f"run={slow}", *limits, "max_batch_size=16")


def heavy(server: Server) -> Answer:
    return server.post("/predict", {"texts": ["the film " * 200] * 400})


def test_a_full_queue_is_refused_and_what_takes_too_long_is_given_up(tight: Server):
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: heavy(tight), range(6)))
    statuses = {answer.status for answer in answers}
    assert statuses == {503, 504}
    full = [answer for answer in answers if answer.status == 503]
    assert full
    assert full[0].error == "too many texts wait for the model; repeat the request later"
    assert full[0].headers["retry-after"] == "1"
    late = [answer for answer in answers if answer.status == 504]
    assert late[0].error == "not answered within 1 s; send fewer or shorter texts"
    # The texts of requests that were given up are not computed.
    assert tight.post("/predict", {"text": "a good film"}).status == 200
    assert tight.metric("rnn_lab_queue_texts") == 0


def test_a_body_that_does_not_arrive_is_given_up(tight: Server):
    lines = ("Content-Length: 100", "Content-Type: application/json")
    with tight.connect() as connection:
        connection.sendall(head("POST", "/predict", *lines) + b'{"te')
        answer = read_error(connection)
    assert status_of(answer) == 408
    assert answer.endswith(b'{"error": "the body arrives too slowly"}')


def test_more_connections_than_allowed_are_closed(tight: Server):
    connections = [tight.connect() for _ in range(40)]
    try:
        request = head("GET", "/health", "Connection: close")
        answered = 0
        for connection in connections:
            try:
                connection.sendall(request)
                answered += read_all(connection).startswith(b"HTTP/1.1 200")
            except (BrokenPipeError, ConnectionResetError):
                pass
        assert 25 <= answered <= 30
    finally:
        for connection in connections:
            connection.close()
    for _ in itertools.repeat(None, 50):
        if tight.get("/health").status == 200:
            break
