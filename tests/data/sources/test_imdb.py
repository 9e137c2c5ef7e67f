import gzip
import io
import re
import socket
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from rnn_lab.data.config import ImdbConfig
from rnn_lab.data.corpus import Corpus
from rnn_lab.data.sources import imdb
from rnn_lab.data.sources.imdb import _films, load_imdb
from rnn_lab.errors import DataError

ARCHIVE = "aclImdb_v1.tar.gz"


def write_archive(path: Path, members: dict[str, bytes], level: int = 1) -> Path:
    with (
        gzip.open(path, "wb", compresslevel=level) as zipped,
        tarfile.open(fileobj=zipped, mode="w|") as tar,
    ):
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


REVIEWS = {name: number // 50 for name, number in imdb.REVIEWS.items()}


def whole_data_set() -> dict[str, bytes]:
    """A fiftieth of the real data set's reviews, two words each, ten per film and class."""
    members = {}
    for split, first_film in (("train", 1_000), ("test", 5_000)):
        for folder, stars in (("neg", 2), ("pos", 9)):
            films = [b"http://www.imdb.com/title/tt%07d/usercomments" % (first_film + k // 10)
                     for k in range(250)]  # fmt: skip
            members[f"aclImdb/{split}/urls_{folder}.txt"] = b"\n".join(films) + b"\n"
            for k in range(250):
                members[f"aclImdb/{split}/{folder}/{k}_{stars}.txt"] = b"%s %d" % (
                    folder.encode(),
                    k,
                )
    members |= {f"aclImdb/train/unsup/{k}_0.txt": b"" for k in range(1_000)}
    return members


@pytest.fixture
def load(tmp_path, monkeypatch) -> Callable[..., Corpus]:
    """Load from a root, without the network, in a working folder without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMDB_ROOT", raising=False)

    def load_from(root: Path | None, **options) -> Corpus:
        root = None if root is None else str(root)
        return load_imdb(
            ImdbConfig(**{"root": root, "download": False, "cache_dir": "cache", **options})
        )

    return load_from


def test_the_real_reviews(imdb_corpus: Corpus, imdb_root: Path):
    assert imdb_corpus.name == "imdb"
    assert imdb_corpus.class_names == ("negative", "positive")
    assert not imdb_corpus.synthetic
    for name, split in (("train", imdb_corpus.train), ("test", imdb_corpus.test)):
        assert np.bincount(split.labels).tolist() == [12_500, 12_500]
        assert (np.diff(split.labels) >= 0).all()
        for folder, half in (("neg", split.names[:12_500]), ("pos", split.names[12_500:])):
            assert all(re.fullmatch(rf"{name}/{folder}/\d+_\d+\.txt", path) for path in half)
            assert half == sorted(half)
        for label, stars in ((0, range(1, 5)), (1, range(7, 11))):
            names = [split.names[row] for row in np.flatnonzero(split.labels == label)]
            assert {int(re.search(r"_(\d+)\.txt", path)[1]) for path in names} == set(stars)
    assert imdb_corpus.train.names[0] == "train/neg/0_3.txt"
    assert imdb_corpus.train.texts[0].startswith("Story of a man who has unnatural feelings")


def test_it_says_whose_reviews_they_are(imdb_corpus: Corpus):
    assert imdb_corpus.terms is not None and "Maas et al. 2011" in imdb_corpus.terms


def test_the_real_films(imdb_corpus: Corpus):
    train, test = imdb_corpus.train, imdb_corpus.test
    assert len(set(train.groups)) == 3456
    assert len(set(test.groups)) == 3581
    # The Guardian (2006) is the only film in both splits, with two reviews in training.
    assert set(train.groups) & set(test.groups) == {406816}
    assert (train.groups == 406816).sum() == 2
    assert max(np.bincount(np.unique(train.groups, return_inverse=True)[1])) <= 30
    assert share_of_neighbours_with_a_rare_name(train, same_film=True) > 0.4
    assert share_of_neighbours_with_a_rare_name(train, same_film=False) < 0.01


def share_of_neighbours_with_a_rare_name(split, *, same_film: bool) -> float:
    """Return how many reviews k and k + 1 share a capitalised word of at most 40 reviews."""
    number = [int(name.rpartition("/")[2].partition("_")[0]) for name in split.names]
    rows = [row for row in np.lexsort((number, split.labels)) if split.labels[row] == 0]
    words = [set(re.findall(r"[A-Z][a-z]{3,}", split.texts[row])) for row in rows]
    count: dict[str, int] = {}
    for review in words:
        for word in review:
            count[word] = count.get(word, 0) + 1
    rare = [{word for word in review if count[word] <= 40} for review in words]
    film = split.groups[rows]
    pairs = [i for i, _ in pairwise(range(len(rows))) if (film[i] == film[i + 1]) == same_film]
    return sum(bool(rare[i] & rare[i + 1]) for i in pairs) / len(pairs)


def test_a_second_start_is_fast(imdb_corpus: Corpus, imdb_root: Path, imdb_cache: Path):
    started = time.perf_counter()
    again = load_imdb(ImdbConfig(root=str(imdb_root), cache_dir=str(imdb_cache)))
    assert len(again.train.texts[12_345]) > 0
    assert time.perf_counter() - started < 1.0
    assert again.fingerprint == imdb_corpus.fingerprint


@pytest.fixture(scope="module")
def whole_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("whole") / ARCHIVE, whole_data_set())


def test_a_repacked_archive_is_judged_by_its_content(whole_archive, load, monkeypatch):
    monkeypatch.setattr(imdb, "REVIEWS", REVIEWS)
    corpus = load(whole_archive.parent)
    assert corpus.train.names[:3] == [f"train/neg/{k}_2.txt" for k in (0, 100, 101)]
    assert corpus.train.texts[1] == "neg 100"
    assert corpus.train.groups[1] == 1_000 + 100 // 10
    assert corpus.test.names[-1] == "test/pos/9_9.txt"
    assert corpus.test.groups[-1] == 5_000
    monkeypatch.setenv("IMDB_ROOT", str(whole_archive.parent))
    for found in (load(whole_archive), load(None)):
        assert found.fingerprint == corpus.fingerprint


def test_an_archive_and_its_extracted_folder_are_the_same_data_set(
    whole_archive, tmp_path, load, monkeypatch
):
    monkeypatch.setattr(imdb, "REVIEWS", REVIEWS)
    expected = load(whole_archive).fingerprint
    with tarfile.open(whole_archive) as tar:
        tar.extractall(tmp_path, filter="data")
    for folder in (tmp_path, tmp_path / "aclImdb"):
        assert load(folder).fingerprint == expected
    (tmp_path / "aclImdb/train/pos/7_9.txt").unlink()
    with pytest.raises(DataError, match=r"aclImdb: .*train/pos holds 249 reviews instead of 250"):
        load(tmp_path)


def test_an_incomplete_folder(tmp_path, load):
    for name, content in SOME.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"aclImdb: .*train/neg holds 200 reviews instead of 12,500"
    ):
        load(tmp_path)


SOME = {f"aclImdb/train/neg/{k}_2.txt": b"A dull film, number %d. " % k * 50 for k in range(200)}


def test_an_incomplete_archive(tmp_path, load):
    write_archive(tmp_path / ARCHIVE, SOME)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: .*train/neg holds 200 reviews instead of"):
        load(tmp_path)
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_a_truncated_archive(tmp_path, load):
    archive = write_archive(tmp_path / ARCHIVE, SOME)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{ARCHIVE}: is damaged"):
        load(tmp_path)


def test_one_changed_letter_in_a_review(tmp_path, load):
    archive = write_archive(tmp_path / ARCHIVE, SOME, level=0)  # stored: only a checksum can tell
    content = archive.read_bytes()
    assert b"number 77" in content
    archive.write_bytes(content.replace(b"number 77", b"number 76", 1))
    with pytest.raises(DataError, match=rf"{ARCHIVE}: is damaged.*CRC"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Not found</html>", gzip.compress(b"text" * 999, mtime=0)],
    ids=["empty", "a web page", "no tar inside"],
)
def test_a_file_that_is_not_an_archive(tmp_path, load, content):
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: is "):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_the_unlabelled_reviews_are_read_alone(tmp_path, kind):
    members = SOME | {"aclImdb/train/unsup/0_0.txt": b"So so", "aclImdb/train/unsup/1_0.txt": b"x"}
    if kind == "archive":
        write_archive(tmp_path / ARCHIVE, members)
    else:
        for name, content in members.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    texts = ImdbConfig(root=str(tmp_path), download=False).own_unlabelled()
    assert list(texts) == list(texts) == ["So so", "x"]


def test_a_foreign_archive(tmp_path, load):
    write_archive(tmp_path / ARCHIVE, {"holiday/1.jpg": b"", "holiday/2.jpg": b""})
    with pytest.raises(DataError, match=rf"{ARCHIVE}: is not the IMDB data set"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "aclImdb/../../evil.txt"])
def test_members_outside_the_folder(tmp_path, load, name):
    write_archive(tmp_path / ARCHIVE, {**SOME, name: b"evil"})
    with pytest.raises(DataError, match=rf"{ARCHIVE}: refused.*{re.escape(name)}.*outside"):
        load(tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_members_that_are_not_plain_files(tmp_path, load, kind):
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        member = tarfile.TarInfo("aclImdb/train/neg/0_1.txt")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(DataError, match=rf"{ARCHIVE}: refused.*0_1\.txt.*no plain file"):
        load(tmp_path)


def test_a_duplicate_member(tmp_path, load):
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("aclImdb/train/neg/0_1.txt"))
    with pytest.raises(DataError, match=r"train/neg/0_1\.txt twice"):
        load(tmp_path)


def test_nothing_there_and_no_download(tmp_path, load):
    with pytest.raises(DataError) as caught:
        load(tmp_path / "empty")
    message = str(caught.value)
    assert "\n" not in message
    for hint in (str(tmp_path / "empty"), ARCHIVE, "aclImdb/", "data.root=", "data=demo"):
        assert hint in message


def test_nothing_there_and_no_network(tmp_path, load, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError, match=r"no download \(http.*refused.*data=demo"):
        load(tmp_path / "new", download=True, url=f"http://127.0.0.1:{port}/{ARCHIVE}")


def write_raw(path: Path, *members: tuple[tarfile.TarInfo, bytes], pax: bool = False) -> None:
    """Write an archive with unchecked headers."""
    format = tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    with gzip.open(path, "wb", compresslevel=1) as zipped:
        for member, content in members:
            zipped.write(member.tobuf(format) + content + bytes(-len(content) % 512))
        zipped.write(bytes(1024))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


REVIEW = "aclImdb/train/neg/0_1.txt"


@pytest.mark.parametrize(
    ("name", "kind", "size", "content", "said"),
    [
        (REVIEW, tarfile.REGTYPE, 2**24 + 1, b"", "has 16,777,217 bytes"),
        (REVIEW, tarfile.REGTYPE, 2**80, b"", "has 1,208,925,819,614,629,174,706,176 bytes"),
        ("notes.txt", tarfile.REGTYPE, 2**80, b"", "has 1,208,925"),
        ("aclImdb", tarfile.DIRTYPE, 2**62, b"", "has 4,611,686"),
        (REVIEW, tarfile.REGTYPE, -512, b"", "refused|damaged"),
        (REVIEW, tarfile.GNUTYPE_SPARSE, 2**40, b"", "no plain file|damaged"),
        ("@LongLink", tarfile.GNUTYPE_LONGNAME, 2**26, bytes(2**26), "a header of it is larger"),
        ("@PaxHeader", tarfile.XHDTYPE, 2**26, bytes(2**26), "a header of it is larger"),
        ("@PaxHeader", tarfile.XHDTYPE, 9, b"9 size=x\n", "damaged|not the IMDB"),
        ("@PaxHeader", tarfile.XHDTYPE, 30, b"30 GNU.sparse.map=1,2,x,,,,,,\n", "damaged|no plain"),
    ],
    ids=[
        *("a large review", "a review without end", "a file without end", "a folder without end"),
        *("less than nothing", "sparse", "a long name", "a large extension", "no number", "no map"),
    ],
)  # fmt: skip
def test_members_that_would_fill_the_memory_or_never_end(
    tmp_path, load, name, kind, size, content, said
):
    write_raw(
        tmp_path / ARCHIVE,
        (header(name, size, kind), content),
        (header("aclImdb/train/neg/1_1.txt", 0), b""),
    )
    assert (tmp_path / ARCHIVE).stat().st_size < 400_000
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"{ARCHIVE}: .*({said})"):
            load(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("place", ["within", "behind"])
def test_an_archive_that_unpacks_to_too_much(tmp_path, load, monkeypatch, place):
    monkeypatch.setattr("rnn_lab.data.sources.imdb.MAX_ARCHIVE_BYTES", 2**25)
    zeros = [(header(f"aclImdb/{i}.dat", 2**23), bytes(2**23)) for i in range(5)]
    archive = tmp_path / ARCHIVE
    write_raw(archive, *(zeros if place == "within" else zeros[:1]))
    if place == "behind":
        archive.write_bytes(archive.read_bytes() + gzip.compress(bytes(2**25), 1, mtime=0))
    with pytest.raises(DataError, match=rf"{ARCHIVE}: refused, unpacks to more than 33,554,432 b"):
        load(tmp_path)


def test_an_archive_packed_from_within_its_folder(tmp_path, load):
    """`tar czf <archive> .` begins with a member without a name."""
    members = {f"./{name}": content for name, content in SOME.items()}
    with gzip.open(tmp_path / ARCHIVE, "wb") as zipped, tarfile.open(fileobj=zipped, mode="w") as t:
        t.addfile(header(".", 0, tarfile.DIRTYPE))
        for name, content in members.items():
            t.addfile(header(name, len(content)), io.BytesIO(content))
    with pytest.raises(DataError, match=rf"{ARCHIVE}: .*train/neg holds 200 reviews instead of"):
        load(tmp_path)


def test_numbers_that_are_too_large(tmp_path, load):
    digits = "9" * 5_000
    archive = tmp_path / ARCHIVE
    write_archive(archive, {f"aclImdb/train/neg/{digits}_1.txt": b"dull"})
    with pytest.raises(DataError, match=rf"{ARCHIVE}: is not the IMDB data set"):
        load(tmp_path)
    contents = {"train/urls_neg.txt": b"http://www.imdb.com/title/tt" + b"9" * 30 + b"/comments"}
    with pytest.raises(DataError, match=r"urls_neg\.txt:1 names no film"):
        _films("train/urls_neg.txt", contents, archive)
