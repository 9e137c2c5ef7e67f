"""The page of a run by its command."""

import re

from tests.cli.forked import run_warm_command


def test_the_page_of_a_trained_run(tmp_path, mood_run):
    page = tmp_path / "page.html"
    arguments = ("report", f"run={mood_run}", f"output={page}", "examples=3")
    done = run_warm_command("rnn_lab/__main__.py", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Page: {page}\n"
    content = page.read_text()
    assert len(re.findall("<article", content)) == len(re.findall("Colours: for", content)) == 3
    assert re.search(r'<span class="w-?[1-9]\d*"', content)
    assert "TF-IDF with logistic regression" in content
    assert "data.label_column=label" in content  # how the file was read
    assert "reproduce=" in content and "<script" not in content
