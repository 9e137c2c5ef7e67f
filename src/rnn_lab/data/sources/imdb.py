"""The Large Movie Review Dataset (Maas et al. 2011), from an archive, a folder or the network."""

import gzip
import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from rnn_lab.data.cache import build_once
from rnn_lab.data.config import ImdbConfig
from rnn_lab.data.corpus import Corpus, Split
from rnn_lab.data.corpus_storage import content_fingerprint, open_corpus, stat_key, write_corpus
from rnn_lab.data.progress import progress_bar
from rnn_lab.data.sources.download import download
from rnn_lab.errors import DataError, MissingDataError

ARCHIVE_NAME = "aclImdb_v1.tar.gz"
ARCHIVE_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
FOLDER_NAME = "aclImdb"
DEFAULT_ROOT = Path("data")
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
MAX_FILE_BYTES = 2**24  # the largest file that is read has 0.6 million
MAX_ARCHIVE_BYTES = 2**30  # unpacked; the data set has 0.2 billion


def load_imdb(config: ImdbConfig) -> Corpus:
    """The 50,000 labelled reviews, found or fetched; parsed once, then opened from the cache.

    In each split the negative reviews come first; both classes are sorted by file name as text.
    Groups are the films' IMDb title numbers. The 50,000 unlabelled reviews are counted only.

    Raises:
        DataError: there are no reviews and none can be fetched, or what is there is not the data
            set whole and undamaged.
    """
    source = _find(config) or _fetch(config)
    files = [source] if source.is_file() else _labelled_files(source)
    folder = Path(config.cache_dir) / f"imdb-{stat_key(files)}"
    return open_corpus(build_once(folder, lambda partial: write_corpus(_parse(source), partial)))


def _find(config: ImdbConfig) -> Path | None:
    """The extracted folder or the archive, the first there is of: asked for, ./data."""
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
    return Path(named).expanduser().absolute()


def _fetch(config: ImdbConfig) -> Path:
    root = _root(config)
    advice = (
        f"put {ARCHIVE_NAME} or the extracted {FOLDER_NAME}/ into {root}, or name the folder "
        "that holds it with data.root=..., or use the synthetic reviews with data=demo"
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


def _parse(source: Path) -> Corpus:
    """Read everything of `source`, an archive or an extracted folder, and check that it is all."""
    members = _archive_members(source) if source.is_file() else _folder_members(source)
    counts: Counter[str] = Counter()
    contents: dict[str, bytes] = {}
    for name, content in members:
        if review := REVIEW_PATH.fullmatch(name):
            counts[review[1]] += 1
            if counts[review[1]] > REVIEWS[review[1]]:
                break
        if name.startswith(UNLABELLED):
            continue
        if name in contents:
            raise DataError(f"{source}: holds {name} twice")
        contents[name] = content
    if not counts:
        raise DataError(f"{source}: is not the IMDB data set, it holds no {FOLDER_NAME}/ reviews")
    for place, expected in REVIEWS.items():
        if counts[place] != expected:
            raise DataError(
                f"{source}: is not whole or not the IMDB data set: "
                f"{FOLDER_NAME}/{place} holds {counts[place]:,} reviews instead of {expected:,}"
            )
    train, test = (_split(split, contents, source) for split in ("train", "test"))
    fingerprint = content_fingerprint(CLASS_NAMES, [train, test])
    return Corpus("imdb", CLASS_NAMES, train, None, test, fingerprint)


def _split(split: str, contents: dict[str, bytes], source: Path) -> Split:
    texts: list[str] = []
    names: list[str] = []
    labels: list[int] = []
    films: list[int] = []
    for label, folder in enumerate(FOLDER_OF_CLASS):
        place = f"{split}/{folder}"
        film_of_line = _films(f"{split}/urls_{folder}.txt", contents, source)
        for name in sorted(name for name in contents if name.startswith(f"{place}/")):
            number = int(name.removeprefix(f"{place}/").partition("_")[0])
            if number >= len(film_of_line):
                raise DataError(f"{source}: no line of {split}/urls_{folder}.txt is for {name}")
            texts.append(_decoded(name, contents, source))
            names.append(name)
            labels.append(label)
            films.append(film_of_line[number])
    return Split(texts, np.array(labels, dtype=np.int64), names, np.array(films, dtype=np.int64))


def _films(name: str, contents: dict[str, bytes], source: Path) -> list[int]:
    """The film of each line; line k, from 0, is for the review whose file name starts with k."""
    if name not in contents:
        raise DataError(f"{source}: {FOLDER_NAME}/{name} is missing")
    films = []
    for number, line in enumerate(_decoded(name, contents, source).splitlines(), start=1):
        title = TITLE_ID.search(line)
        if title is None:
            raise DataError(f"{source}: {FOLDER_NAME}/{name}:{number} names no film")
        films.append(int(title[1]))
    return films


def _decoded(name: str, contents: dict[str, bytes], source: Path) -> str:
    try:
        text = contents[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: {FOLDER_NAME}/{name} is not UTF-8: {error}") from error
    if not text.strip():
        raise DataError(f"{source}: {FOLDER_NAME}/{name} is empty")
    return text


def _archive_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path below aclImdb/, content) in one pass, extracting nothing to disk.

    However much a small archive might unpack to, no more is unpacked than MAX_ARCHIVE_BYTES.
    """
    total = sum(REVIEWS.values())
    try:
        # Not mode "r|gz": tarfile's own decompressor ignores the checksum.
        with (
            gzip.open(path) as zipped,
            _Unzipped(path, zipped) as unzipped,
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
                    yield name, file.read()
                    advance(1)
            unzipped.allow(MAX_ARCHIVE_BYTES)
            while unzipped.read(2**20):
                pass  # the checksum stands behind the last byte
    except DataError:
        raise
    except Exception as error:  # a damaged header can fail anywhere in tarfile
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise DataError(f"{path}: cannot be read: {error}") from error
        raise DataError(f"{path}: is damaged or not a .tar.gz archive: {error}") from error


class _Unzipped(io.RawIOBase):
    """Reads what is unpacked, and no more than has been allowed.

    tarfile itself would read a member's header whole, however large the header says it is.
    """

    def __init__(self, path: Path, zipped: gzip.GzipFile) -> None:
        self._path, self._zipped = path, zipped
        self._left_in_all = MAX_ARCHIVE_BYTES
        self._left = 0
        self.allow(0)

    def allow(self, size: int) -> None:
        """Let a file of `size` bytes be read, and the headers of the next."""
        self._left = size + MAX_FILE_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self._zipped.read(size)
        self._left -= len(content)
        self._left_in_all -= len(content)
        if self._left < 0:
            raise DataError(f"{self._path}: refused, a header of it is larger than a data set's")
        if self._left_in_all < 0:
            raise DataError(
                f"{self._path}: refused, unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes"
            )
        return content


def _refuse(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse what no data set holds.

    Raises:
        DataError: the member would be written elsewhere, is no plain file, or is too large.
    """
    name = PurePosixPath(member.name)
    shown = repr(member.name if len(member.name) < 200 else member.name[:200] + "...")
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        raise DataError(f"{path}: refused, its member {shown} would land outside")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise DataError(f"{path}: refused, its member {shown} is no plain file")
    # To skip a member, tarfile reads as often as its size asks for, even where nothing is left.
    largest = MAX_FILE_BYTES if _is_part(_below_top(member.name)) else MAX_ARCHIVE_BYTES
    if not 0 <= member.size <= largest:
        raise DataError(f"{path}: refused, its member {shown} has {member.size:,} bytes")


def _is_part(name: str) -> bool:
    return name in URL_FILES or REVIEW_PATH.fullmatch(name) is not None


def _below_top(name: str) -> str:
    parts = PurePosixPath(name).parts
    return "/".join(parts[1:]) if parts[:1] == (FOLDER_NAME,) else "/".join(parts)


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the same from an extracted folder; unlabelled reviews come without their content."""
    with progress_bar(f"Reading {folder}", sum(REVIEWS.values())) as advance:
        for name, file in _walk(folder):
            if not _is_part(name):
                continue
            try:
                yield name, b"" if name.startswith(UNLABELLED) else Path(file).read_bytes()
            except OSError as error:
                raise DataError(f"{file}: cannot be read: {error.strerror}") from error
            advance(1)


def _walk(folder: Path) -> Iterator[tuple[str, Path | os.DirEntry[str]]]:
    """Every file where the data set has some, after its path below `folder`."""
    for place in REVIEWS:
        if (folder / place).is_dir():
            for entry in sorted(os.scandir(folder / place), key=lambda entry: entry.name):
                yield f"{place}/{entry.name}", entry
    for name in URL_FILES:
        if (folder / name).is_file():
            yield name, folder / name
