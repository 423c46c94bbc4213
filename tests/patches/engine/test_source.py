"""Which bytes are read as a source, that all of them are kept, and which are refused."""

import pytest

from patches.engine.source import from_bytes
from patches.errors import UnreadableSource

READABLE = {
    "plain": b"a = 1\n",
    "byte order mark and CRLF": b"\xef\xbb\xbfa = '\xc3\xa4'\r\n",
    "latin-1": b"# coding: latin-1\na = '\xe4'\n",
    "cp1252 without last newline": "# -*- coding: cp1252 -*-\na = '\N{EURO SIGN}'".encode("cp1252"),
    "mixed newlines": b"a = 1\r\nb = 2\n",
    "form feed": b"\x0ca = 1\n",
    "line separators of Unicode": "s = '''\u2028\x85'''\n".encode(),
    "a hundred levels of nesting": b"a = " + b"-" * 90 + b"1\n",
}


@pytest.mark.parametrize("data", READABLE.values(), ids=READABLE)
def test_every_byte_is_kept(data: bytes) -> None:
    source = from_bytes("f.py", data)
    assert source.with_text(source.text + "\nc = 3\n").data == data + b"\nc = 3\n"
    assert source.with_text(source.text).data == data


REFUSED = {
    "lone CR": (b"a = 1\nb = 2\rc = 3\n", "lines that end in LF or CRLF, found a lone CR in line 2"),
    "unknown encoding": (b"# coding: klingon\n", "a source that compiles, found unknown encoding: klingon"),
    "cut off": (b"a = (\n", "a source that compiles, found line 1: '(' was never closed"),
    "stray return": (b"return 1\n", "a source that compiles, found line 1: 'return' outside function"),
    "too deep": (b"a = " + b"-" * 100_000 + b"1\n", "a source that compiles, found nesting too deep"),
    "NUL": (b"a = 1\0\n", "a source that compiles, found "),
    "UTF-16": ("a = 1\n".encode("utf-16"), ""),
    "not UTF-8": (b"a = 1\n\nb = '\xff'\n", ""),
}


@pytest.mark.parametrize(("data", "found"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_kept_is_refused_in_one_sentence(data: bytes, found: str) -> None:
    with pytest.raises(UnreadableSource) as caught:
        from_bytes("f.py", data)
    message = str(caught.value)
    assert message.startswith(f"f.py: expected {found}")
    assert message.endswith(". Correct the file and run this again.")
    assert "\n" not in message
    assert "git checkout" not in message


def test_edit_that_does_not_compile_is_refused() -> None:
    with pytest.raises(UnreadableSource):
        from_bytes("f.py", b"a = 1\n").with_text("a = \n")


def test_positions_count_characters_where_ast_counts_bytes() -> None:
    source = from_bytes("f.py", "ä = 'ö'; f(ü)\r\n".encode())
    assert [source.code(statement) for statement in source.tree.body] == ["ä = 'ö'", "f(ü)"]
    assert [source.text[token.start : token.end] for token in source.tokens] == [
        t.text for t in source.tokens
    ]
