import pytest

from rnn_lab.errors import CheckpointError
from rnn_lab.io.schema import SCHEMA_VERSION, check_schema


def test_this_version_is_read():
    check_schema(SCHEMA_VERSION, "result.json")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "run/result.json: has no schema_version; this version of rnn-lab reads "),
        (1, "run/result.json: has schema_version 1; this version of rnn-lab reads "),
        (2, "has schema_version 2; "),
        (4, "has schema_version 4; "),
        ("3", "has schema_version '3'; "),
        (3.0, "has schema_version 3.0; "),
        (True, "has schema_version True; "),
        ("x\x1b[2J\n" * 100, "has schema_version 'x"),
    ],
)
def test_another_version_is_refused_in_one_line_that_names_it(found, said):
    with pytest.raises(CheckpointError) as error:
        check_schema(found, "run/result.json")
    message = str(error.value)
    assert said in message and message.endswith(f"schema_version {SCHEMA_VERSION}")
    assert message.isprintable() and len(message) < 200
