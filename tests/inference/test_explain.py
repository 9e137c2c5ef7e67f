import pytest

from src.errors import UserError
from src.inference.explain import explain


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": None}, "run=<path>"),
        ({"text": None}, "text: is empty"),
        ({"text": "\n"}, "text: is empty"),
        ({"run": "nowhere"}, "nowhere: no such run folder"),
        ({"device": "cpu"}, "device: no such option"),
        ({"output": "file"}, "file/explanation.json: cannot be written"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path, monkeypatch, mood_run, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=said) as error:
        explain({"run": str(mood_run), "text": "lovely"} | options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_two_texts_have_two_folders(tmp_path, mood_run):
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes((mood_run / "checkpoints" / "best.ckpt").read_bytes())
    long = "the film was " * 20
    for text in ("a lovely film", "A lovely film!", long + "lovely", long + "awful", "日本"):
        explain({"run": str(checkpoint), "text": text})
    names = sorted(path.name for path in (tmp_path / "explain").iterdir())
    assert len(names) == 5
    assert "a-lovely-film" in names
    assert all(len(name) <= 49 and name.replace("-", "").isalnum() for name in names)
