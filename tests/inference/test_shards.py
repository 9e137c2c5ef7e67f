import csv
import gzip
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_lab.data.readers.reading import ReadOptions
from rnn_lab.data.readers.records import RecordReader
from rnn_lab.inference.shards import Shard, divide, rows_of_shard


@given(sizes=st.lists(st.integers(0, 1000), max_size=40), count=st.integers(1, 9))
def test_every_file_is_in_one_shard_and_the_shards_are_even(sizes, count):
    shares = divide(sizes, count)
    assert len(shares) == count
    assert sorted(position for share in shares for position in share) == list(range(len(sizes)))
    bytes_of = [sum(sizes[position] for position in share) for share in shares]
    # Moving any file from the largest share to the smallest would make that one the largest.
    largest = max(range(count), key=bytes_of.__getitem__)
    if shares[largest]:
        smallest_file = min(sizes[position] for position in shares[largest])
        assert bytes_of[largest] - min(bytes_of) <= smallest_file
    assert divide(sizes, count) == shares


def test_empty_files_are_shared_too():
    assert sorted(map(len, divide([0] * 8, 4))) == [2, 2, 2, 2]


@pytest.mark.parametrize("text", ["4/4", "0/0", "-1/4", "1", "a/b", "0/4 ", "1/2/3", "٣/4"])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError, match=f"shard={text}"):
        Shard.parse(text)


def rows(number: int) -> list[dict[str, object]]:
    """Rows of one to three lines, of unequal length."""
    rng = random.Random(number)
    filler = ["lovely", "a\nline", 'q"uote', "x" * 300, "\r\n", "é"]
    return [
        {"n": n, "text": "w " + " ".join(rng.choices(filler, k=rng.randint(1, 6)))}
        for n in range(number)
    ]


def write(path, content):
    ending = path.suffixes[0]
    opened = gzip.open if path.suffix == ".gz" else open
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
        return
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        if ending == ".csv":
            writer = csv.DictWriter(file, ["n", "text"])
            writer.writeheader()
            writer.writerows(content)
        elif ending == ".jsonl":
            file.writelines(
                json.dumps(row) + "\n\n" * (row["n"] % 3 == 0) + "\n" for row in content
            )
        elif ending == ".json":
            json.dump(content, file)
        else:
            file.writelines(str(row["text"]).replace("\n", " ") + "\n" for row in content)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "jsonl", "json", "parquet", "txt"])
@pytest.mark.parametrize("number", [1, 3, 100])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_the_shards_of_a_file_are_its_rows_in_order(tmp_path, ending, number, count):
    path = tmp_path / f"file.{ending}"
    write(path, rows(number))

    def read() -> RecordReader:
        return RecordReader(path, ReadOptions(all_columns=True), labelled=False)

    shares = [list(rows_of_shard(read(), path, Shard(i, count))) for i in range(count)]
    assert [row for share in shares for row in share] == list(read())
    if number == 100:
        assert all(0.5 * number / count < len(share) < 2 * number / count for share in shares)
