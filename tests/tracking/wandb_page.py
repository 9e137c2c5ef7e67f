"""The commands of docs/wandb.md."""

import re
import shlex

from tests.cli.runner import PROJECT

PAGE = (PROJECT / "docs" / "wandb.md").read_text(encoding="utf-8")
MARKED = re.compile(
    r"^<!-- (?P<mark>run|not run: [^\n]+) -->\n```bash\n(?P<text>.*?)^```$", re.M | re.S
)


def commands_to_run() -> list[list[str]]:
    """Return the arguments of `rnn-lab` in each command that the page has run."""
    blocks = [block["text"] for block in MARKED.finditer(PAGE) if block["mark"] == "run"]
    lines = [line for text in blocks for line in text.replace("\\\n", " ").splitlines()]
    commands = [shlex.split(line) for line in lines]
    assert all(command[0] == "rnn-lab" for command in commands)
    return [command[1:] for command in commands]


def commands_not_run() -> str:
    """Return the blocks of the others, each of which has its reason."""
    text = "".join(b["text"] for b in MARKED.finditer(PAGE) if b["mark"] != "run")
    return text.replace("\\\n", " ")
