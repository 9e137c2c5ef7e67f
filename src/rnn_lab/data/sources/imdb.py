"""The Large Movie Review Dataset (Maas et al. 2011), from an archive, a folder or the network."""

import gzip
import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import numpy as np
from pydantic import field_validator
from pydantic_core import PydanticCustomError

from rnn_lab.data.cache import build_once, stat_key
from rnn_lab.data.corpus import Corpus, CorpusWriter, UnlabelledTexts, open_corpus
from rnn_lab.data.options import TextOptions
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.sources.download import download
from rnn_lab.data.sources.registry import register_source
from rnn_lab.errors import DataError, MissingDataError
from rnn_lab.paths import local_path
from rnn_lab.validation import FilePath, Text

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
ARCHIVE_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
FOLDER_NAME = "aclImdb"
DEFAULT_ROOT = Path("data")
TERMS = (
    "The Large Movie Review Dataset, reviews by users of IMDb. It has no licence; its authors ask "
    "to cite Maas et al. 2011, Learning Word Vectors for Sentiment Analysis, ACL."
)
CLASS_NAMES = ("negative", "positive")
FOLDER_OF_CLASS = ("neg", "pos")
UNLABELLED = "train/unsup"
REVIEWS = {
    **{f"{split}/{folder}": 12_500 for split in ("train", "test") for folder in FOLDER_OF_CLASS},
    UNLABELLED: 50_000,
}
URL_FILES = tuple(
    f"{split}/urls_{folder}.txt" for split in ("train", "test") for folder in FOLDER_OF_CLASS
)
REVIEW_PATH = re.compile(r"((?:train|test)/(?:neg|pos)|train/unsup)/([0-9]{1,9})_[0-9]{1,9}\.txt")
TITLE_ID = re.compile(r"/title/tt([0-9]{1,18})(?![0-9])")
MAX_FILE_BYTES = 2**24  # the largest file of the data set has 0.6 million
MAX_ARCHIVE_BYTES = 2**30  # unpacked; the data set has 0.2 billion


class ImdbConfig(TextOptions):
    """The options of imdb. conf/data/imdb.yaml explains each."""

    fits_size: ClassVar = False
    has_unlabelled: ClassVar = True

    source: Literal["imdb"] = "imdb"
    root: FilePath | None = None
    download: bool = True
    url: Text = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    val_split: Literal["by_film", "random"] = "by_film"

    @field_validator("url")
    @classmethod
    def _no_password(cls, url: str) -> str:
        if "@" in urlsplit(url).netloc:
            message = "contains a user name or password, which the run would save"
            raise PydanticCustomError("secret", message)
        return url

    def own_unlabelled(self) -> UnlabelledTexts:
        """Return the 50,000 unlabelled reviews, from where `load_imdb` finds the labelled ones."""
        source = _find(self) or _fetch(self)
        return UnlabelledTexts(stat_key(_unlabelled_files(source)), lambda: _unlabelled(source))


@register_source("imdb", ImdbConfig)
def load_imdb(config: ImdbConfig) -> Corpus:
    """Load the 50,000 labelled reviews, from disk or from the network.

    The first call parses them into the cache, later calls open the cache. In each split the
    negative reviews come first, and each class is sorted by file name as text. The groups are the
    IMDb title numbers of the films. The 50,000 unlabelled reviews are counted and not read.

    Raises:
        MissingDataError: the reviews are not on disk and cannot be downloaded.
        DataError: what is on disk is not the complete, undamaged data set.
    """
    source = _find(config) or _fetch(config)
    files = [source] if source.is_file() else _labelled_files(source)
    folder = Path(config.cache_dir) / f"imdb-{stat_key(files)}"
    corpus = open_corpus(build_once(folder, lambda partial: _write(source, partial)))
    return replace(corpus, terms=TERMS)


def _find(config: ImdbConfig) -> Path | None:
    """Return the extracted folder or the archive, in the configured root or else in ./data."""
    for root in (_root(config), DEFAULT_ROOT.absolute()):
        if root.is_file():
            return root
        if root.name == FOLDER_NAME and (root / "train").is_dir():
            return root
        for path in (root / FOLDER_NAME, root / ARCHIVE_NAME):
            if path.exists():
                return path
    return None


def _root(config: ImdbConfig) -> Path:
    named = config.root or os.environ.get("IMDB_ROOT") or DEFAULT_ROOT
    return local_path(named).absolute()


def _fetch(config: ImdbConfig) -> Path:
    root = _root(config)
    advice = (
        f"put {ARCHIVE_NAME} or the extracted {FOLDER_NAME}/ into {root}, or give the folder "
        "that contains it with data.root=..., or use the synthetic reviews with data=demo"
    )
    if not config.download:
        raise MissingDataError(f"no IMDB reviews in {root} and data.download=false: {advice}")
    existing = next(path for path in (root, *root.parents) if path.exists())
    folder = root if os.access(existing, os.W_OK) else DEFAULT_ROOT.absolute()
    try:
        return download(config.url, folder / ARCHIVE_NAME, ARCHIVE_MD5)
    except DataError as error:
        raise MissingDataError(
            f"no IMDB reviews in {root} and no download ({error}): {advice}"
        ) from error


def _labelled_files(folder: Path) -> list[Path | os.DirEntry[str]]:
    return [file for name, file in _walk(folder) if not name.startswith(UNLABELLED)]


def _unlabelled_files(source: Path) -> list[Path | os.DirEntry[str]]:
    if source.is_file():
        return [source]
    return [file for name, file in _walk(source) if name.startswith(UNLABELLED)]


def _unlabelled(source: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of the unlabelled reviews of an archive or folder, in its order."""
    read = _archive_members if source.is_file() else _folder_members
    for name, content in read(source, unlabelled=True):
        if name.startswith(UNLABELLED):
            yield name, _decode(name, content, source)


def _write(source: Path, folder: Path) -> None:
    """Copy every labelled review of an archive or extracted folder into `folder`, in one pass.

    Raises:
        DataError: `source` is not the complete data set.
    """
    members = _archive_members(source) if source.is_file() else _folder_members(source)
    counts: Counter[str] = Counter()
    row_of: dict[str, int] = {}  # by the name of a review
    urls: dict[str, bytes] = {}  # contents of URL_FILES
    fault: DataError | None = None  # the first; a wrong number of reviews is the better message
    with CorpusWriter(folder) as corpus:
        for name, content in members:
            if review := REVIEW_PATH.fullmatch(name):
                counts[review[1]] += 1
                if counts[review[1]] > REVIEWS[review[1]]:
                    break
            if name.startswith(UNLABELLED):
                continue
            if name in row_of or name in urls:
                raise DataError(f"{source}: contains {name} twice")
            if not review:
                urls[name] = content
                continue
            row_of[name] = corpus.rows
            try:
                corpus.append(_decode(name, content, source), name)
            except DataError as error:
                fault = fault or error
        _check_counts(counts, source)
        if fault:
            raise fault
        rows: dict[str, np.ndarray] = {}
        labels, films = (np.empty(corpus.rows, dtype=np.int64) for _ in range(2))
        for split in ("train", "test"):
            names, labels_of_split, films_of_split = _split(split, row_of, urls, source)
            rows[split] = np.array([row_of[name] for name in names], dtype=np.int64)
            labels[rows[split]], films[rows[split]] = labels_of_split, films_of_split
        corpus.finish("imdb", CLASS_NAMES, rows=rows, labels=labels, groups=films)


def _check_counts(counts: Counter[str], source: Path) -> None:
    if not counts:
        raise DataError(
            f"{source}: is not the IMDB data set, it contains no {FOLDER_NAME}/ reviews"
        )
    for place, expected in REVIEWS.items():
        if counts[place] != expected:
            raise DataError(
                f"{source}: is incomplete or not the IMDB data set: "
                f"{FOLDER_NAME}/{place} holds {counts[place]:,} reviews instead of {expected:,}"
            )


def _split(
    split: str, reviews: Iterable[str], urls: dict[str, bytes], source: Path
) -> tuple[list[str], list[int], list[int]]:
    """Return the names of the reviews of a split in its order, their labels and their films."""
    names: list[str] = []
    labels: list[int] = []
    films: list[int] = []
    for label, folder in enumerate(FOLDER_OF_CLASS):
        place = f"{split}/{folder}"
        film_of_line = _films(f"{split}/urls_{folder}.txt", urls, source)
        for name in sorted(name for name in reviews if name.startswith(f"{place}/")):
            number = int(name.removeprefix(f"{place}/").partition("_")[0])
            if number >= len(film_of_line):
                raise DataError(f"{source}: {split}/urls_{folder}.txt has no line for {name}")
            names.append(name)
            labels.append(label)
            films.append(film_of_line[number])
    return names, labels, films


def _films(name: str, urls: dict[str, bytes], source: Path) -> list[int]:
    """Return the film of each line; line k, from 0, is for the review whose name begins with k."""
    if name not in urls:
        raise DataError(f"{source}: {FOLDER_NAME}/{name} is missing")
    films = []
    for number, line in enumerate(_decode(name, urls[name], source).splitlines(), start=1):
        title = TITLE_ID.search(line)
        if title is None:
            raise DataError(f"{source}: {FOLDER_NAME}/{name}:{number} names no film")
        films.append(int(title[1]))
    return films


def _decode(name: str, content: bytes, source: Path) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: {FOLDER_NAME}/{name} is not UTF-8: {error}") from error
    if not text.strip():
        raise DataError(f"{source}: {FOLDER_NAME}/{name} is empty")
    return text


def _archive_members(path: Path, *, unlabelled: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield (path below aclImdb/, content) in one pass, without extracting to disk.

    Unlabelled reviews come without their content, and with `unlabelled` all others do.

    An untrusted archive can unpack to far more than its size: at most MAX_ARCHIVE_BYTES are read.
    """
    total = sum(REVIEWS.values())
    try:
        # Not mode "r|gz": the decompressor of tarfile ignores the checksum.
        with (
            gzip.open(path) as zipped,
            _LimitedReader(path, zipped) as unzipped,
            tarfile.open(fileobj=unzipped, mode="r|") as archive,
            progress_bar(f"Reading {path.name}", total) as advance,
        ):
            for member in archive:
                _refuse(path, member)
                unzipped.allow(member.size)
                name = _below_top(member.name)
                if member.isfile() and _is_part(name):
                    file = archive.extractfile(member)
                    assert file is not None
                    wanted = name.startswith(UNLABELLED) is unlabelled
                    yield name, file.read() if wanted else b""
                    advance(1)
            unzipped.allow(MAX_ARCHIVE_BYTES)
            while unzipped.read(2**20):
                pass  # the checksum follows the last byte
    except DataError:
        raise
    except Exception as error:  # tarfile raises errors of many kinds for a damaged header
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise DataError(f"{path}: cannot be read: {error}") from error
        raise DataError(f"{path}: is damaged or not a .tar.gz archive: {error}") from error


class _LimitedReader(io.RawIOBase):
    """Read the unpacked bytes, up to an allowed number.

    tarfile itself reads the whole header of a member, whatever size the header claims.
    """

    def __init__(self, path: Path, zipped: gzip.GzipFile) -> None:
        self._path, self._zipped = path, zipped
        self._left_in_all = MAX_ARCHIVE_BYTES
        self._left = 0
        self.allow(0)

    def allow(self, size: int) -> None:
        """Allow a file of `size` bytes and the headers of the next file."""
        self._left = size + MAX_FILE_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self._zipped.read(size)
        self._left -= len(content)
        self._left_in_all -= len(content)
        if self._left < 0:
            raise DataError(f"{self._path}: refused, a header of it is larger than allowed")
        if self._left_in_all < 0:
            raise DataError(
                f"{self._path}: refused, unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes"
            )
        return content


def _refuse(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse a member that the data set cannot contain.

    Raises:
        DataError: its path leaves the folder, or it is not a regular file, or is too large.
    """
    shown = repr(member.name if len(member.name) < 200 else member.name[:200] + "...")
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        raise DataError(f"{path}: refused, its member {shown} would land outside")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise DataError(f"{path}: refused, its member {shown} is no plain file")
    # To skip a member, tarfile reads as often as its size requires, even after the end of the file.
    largest = MAX_FILE_BYTES if _is_part(_below_top(member.name)) else MAX_ARCHIVE_BYTES
    if not 0 <= member.size <= largest:
        raise DataError(f"{path}: refused, its member {shown} has {member.size:,} bytes")


def _is_part(name: str) -> bool:
    return name in URL_FILES or REVIEW_PATH.fullmatch(name) is not None


def _below_top(name: str) -> str:
    # Not PurePosixPath, which takes longer for 100,000 members than unpacking them.
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts[1:] if parts[:1] == [FOLDER_NAME] else parts)


def _folder_members(folder: Path, *, unlabelled: bool = False) -> Iterator[tuple[str, bytes]]:
    """Yield the same from an extracted folder."""
    with progress_bar(f"Reading {folder}", sum(REVIEWS.values())) as advance:
        for name, file in _walk(folder):
            if not _is_part(name):
                continue
            try:
                wanted = name.startswith(UNLABELLED) is unlabelled
                yield name, Path(file).read_bytes() if wanted else b""
            except OSError as error:
                raise DataError(f"{file}: cannot be read: {error.strerror}") from error
            advance(1)


def _walk(folder: Path) -> Iterator[tuple[str, Path | os.DirEntry[str]]]:
    """Yield the path below `folder`, and the file, of everything in the folders of the data set."""
    for place in REVIEWS:
        if (folder / place).is_dir():
            for entry in sorted(os.scandir(folder / place), key=lambda entry: entry.name):
                yield f"{place}/{entry.name}", entry
    for name in URL_FILES:
        if (folder / name).is_file():
            yield name, folder / name
