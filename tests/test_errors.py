"""How a command ends on an error."""

import pytest

from rnn_lab.errors import ConfigError, UserError, exiting_on_errors, first_line, whole_message


def end(error: BaseException) -> int:
    """Return the exit status of a command that raises an error."""
    with (
        pytest.raises(SystemExit) as ended,
        exiting_on_errors(lambda one: str(one) if isinstance(one, UserError) else None),
    ):
        raise error
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_each_line_of_a_mistake_is_printed_as_an_error(capsys):
    assert end(ConfigError("lr=x: not a number\nseed=y: not a number")) == 1
    assert capsys.readouterr().err == "error: lr=x: not a number\nerror: seed=y: not a number\n"


def test_a_fault_of_the_program_keeps_its_trace(capsys):
    with pytest.raises(ZeroDivisionError), exiting_on_errors(lambda error: None):
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("interrupt", "printed"),
    [(KeyboardInterrupt(), "stopped\n"), (KeyboardInterrupt("resume with ..."), "")],
    ids=["", "that has printed how to resume"],
)
def test_ctrl_c_ends_in_one_line(capsys, interrupt, printed):
    assert end(interrupt) == 130
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize(
    ("message", "first", "whole"),
    [("\n one  line\n two\n", "one  line", "one line two"), (" \n", "OSError", "OSError")],
)
def test_an_error_is_one_line_also_without_a_message(message, first, whole):
    assert (first_line(OSError(message)), whole_message(OSError(message))) == (first, whole)
