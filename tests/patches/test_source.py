"""What is refused before anything parses it, and that the rest is carried to the byte."""

import pytest

from patches.errors import UnreadableSource
from patches.source import from_bytes

NEXT = "Nothing was changed; mend the file or take it anew from git, then run this again."


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"a = 1\n", id="plain"),
        pytest.param(b"\xef\xbb\xbfa = '\xc3\xa4'\r\n", id="bom-and-crlf"),
        pytest.param(b"# coding: latin-1\na = '\xe4'\n", id="latin-1"),
        pytest.param("# -*- coding: cp1252 -*-\na = '€'".encode("cp1252"), id="cp1252-without-last-newline"),
        pytest.param(b"a = 1\r\nb = 2\n", id="mixed-newlines"),
        pytest.param(b"\x0ca = 1\n", id="form-feed"),
        pytest.param("s = '''\u2028\x85'''\n".encode(), id="unicode-line-separators"),
    ],
)
def test_text_is_carried_to_the_byte(data: bytes) -> None:
    source = from_bytes("f.py", data)
    assert source.with_text(source.text + "\nc = 3\n").data == data + b"\nc = 3\n"
    assert source.with_text(source.text).data == data


@pytest.mark.parametrize(
    ("data", "expected", "found"),
    [
        pytest.param(b"a = 1\nb = 2\rc = 3\n", "lines that end in LF or CRLF", "a lone CR in line 2", id="lone-cr"),
        pytest.param(b"a = 1\n\nb = '\xff'\n", "text in utf-8", "'utf-8' codec can't decode byte 0xff in position 12: "
                     "invalid start byte", id="not-utf-8"),
        pytest.param(b"# coding: klingon\n", "a Python source in its declared encoding",
                     "unknown encoding: klingon", id="unknown-encoding"),
        pytest.param(b"a = (\n", "a source that compiles", "line 1: '(' was never closed", id="cut-off"),
        pytest.param(b"return 1\n", "a source that compiles", "line 1: 'return' outside function", id="stray-return"),
        pytest.param(b"a = " + b"-" * 150 + b"1\n", "at most 100 levels of nesting", "more in line 1", id="deep"),
        pytest.param(b"a = " + b"-" * 100_000 + b"1\n", "a source that compiles",
                     "nesting too deep for Python's compiler", id="very-deep"),
        pytest.param(b"a = b" + b".c" * 100_000 + b"\n", "a source that compiles",
                     "nesting too deep for Python's compiler", id="very-long-chain"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_in_one_sentence(data: bytes, expected: str, found: str) -> None:
    with pytest.raises(UnreadableSource) as caught:
        from_bytes("f.py", data)
    assert str(caught.value) == f"f.py: expected {expected}, found {found}. {NEXT}"


@pytest.mark.parametrize("data", [b"a = 1\0\n", "a = 1\n".encode("utf-16")], ids=["nul", "utf-16"])
def test_bytes_that_are_no_python_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableSource, match=r"^f\.py: expected "):
        from_bytes("f.py", data)


def test_an_edit_that_does_not_compile_is_refused() -> None:
    with pytest.raises(UnreadableSource):
        from_bytes("f.py", b"a = 1\n").with_text("a = \n")
