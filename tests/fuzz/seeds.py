"""The first inputs of fuzzing: small inputs that are nearly valid, and former failures."""

import io
import tarfile

ROWS = (
    b"ARROW1\0\n",
    b'text,label,id\n"a ""good"" film",1,7\n"two\nlines",0,\nstray "quote,1,2\n'
    b'"open,1,1\nend,0,3\n',
    b'text\tlabel\n"a ""good"" film"\t1\n" stray\t0\n',
    b'{"text": "a\\ud83c\\udfac", "label": 1.0, "id": 1}\n{"text": "a", "text": []}\nNaN\n'
    b'{"text": "b", "label": NaN, "x": 1e999}\n[[[[]]]]\n{"text": "\\ud800", "label": "y"}\n',
    "one\r\n\ufeff\u2028\u202e<br /> 🎬\0\n\x85\x0b\n".encode() + b"\xff\xfe\n",
    b"text\rone\rtwo\r",
    b'[{"text": "a", "label": 1}, {"text": "b"},\n 3, {"text": "c", "label": [1]}]',
    b'{"data": [{"text": "a", "label": null}]}',
    b'{"text": ["a", "b"], "label": {"0": 1, "1": 2}}',
    b"sep=;\n3;'a; b'\n4;c\n",
    b"__label__good a film\n__label__bad __label__good a film\nNUM:date When ?\n",
)
TEXTS = (
    b'It\'s "good"... <br /><br "/>(or not?!); one:two',
    "ΑΣ'Σ. İ ẞ \u2028\x1c\x85\xa0映画 <pad> <unk>".encode(),
    b"\xff\xed\xa0\x80 a",
)


def _tar(format: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=format) as tar:
        for name, text in (
            ("./aclImdb/train/neg/0_1.txt", b"bad"),
            ("aclImdb/train/urls_neg.txt", b"http://www.imdb.com/title/tt0064354/usercomments\n"),
            ("aclImdb/" + "long/" * 40 + "x.txt", b""),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE):
            member = tarfile.TarInfo("aclImdb/train/pos")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    return content.getvalue().rstrip(b"\0") + bytes(1024)


SEEDS: dict[str, tuple[bytes, ...]] = {
    "read": tuple(
        bytes([kind + more]) + rows
        for kind in range(4)
        for more in (0, 4, 64, 68, 132)
        for rows in ROWS
    ),
    "tokenize": TEXTS,
    "unpack": (
        *(b"\0" + _tar(format) for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
        b"\0" + _tar(tarfile.USTAR_FORMAT)[:700],
    ),
    "predict": tuple(bytes([kind]) + rows for kind in range(8) for rows in ROWS),
}
