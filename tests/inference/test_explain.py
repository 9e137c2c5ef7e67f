import pytest

from rnn_lab.errors import UserError
from rnn_lab.inference.explain import explain, folder_for


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
def test_mistake_is_one_line(tmp_path, monkeypatch, mood_run, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=said) as error:
        explain({"run": str(mood_run), "text": "lovely"} | options)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_checkpoint_alone_is_explained_where_one_likes(tmp_path, monkeypatch, capsys, mood_run):
    monkeypatch.chdir(tmp_path)
    checkpoint = (mood_run / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "model.ckpt").write_bytes(checkpoint)
    explain({"run": "model.ckpt", "text": "lovely", "output": "my page, 1"})
    assert capsys.readouterr().out.splitlines()[0] == "good"
    page = (tmp_path / "my page, 1" / "explanation.html").read_text()
    assert "GRU, model.ckpt" in page


def test_two_texts_have_two_folders(tmp_path):
    long = "the film was " * 20
    texts = ("a lovely film", "A lovely film!", long + "lovely", long + "awful", "日本", "\udc80")
    folders = [folder_for(tmp_path / "checkpoints" / "best.ckpt", text) for text in texts]
    assert len(set(folders)) == len(texts)
    assert folders[0] == tmp_path / "explain" / "a-lovely-film" and folders[4].name == "日本"
    for folder in folders:
        assert folder.parent == tmp_path / "explain"
        assert len(folder.name) <= 49 and folder.name.replace("-", "").isalnum()
    assert folder_for(tmp_path / "model.ckpt", "x") == tmp_path / "explain" / "x"


def test_an_explanation_has_a_folder_of_its_own(tmp_path, mood_run):
    folder = tmp_path / "why"
    options = {"run": str(mood_run), "text": "lovely"}
    (tmp_path / "explanation.json").write_text('{"notes": "kept"}')
    before = sorted(mood_run.iterdir())
    for other, says in ((mood_run, "is the folder of a run"), (tmp_path, "contains other files")):
        with pytest.raises(UserError, match=rf"^output=.*: {says}"):
            explain(options | {"output": str(other)})
    assert sorted(mood_run.iterdir()) == before
    folder.mkdir()
    for text in ("lovely", "awful"):
        explain(options | {"output": str(folder), "text": text})
    assert "awful" in (folder / "explanation.html").read_text()
