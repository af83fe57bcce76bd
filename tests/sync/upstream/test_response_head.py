"""Header fields are read as the standard library reads them, and a malformed head is refused."""

import http.client
import io
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.upstream.response_head import HeadResponse, parse_headers

NAMES = st.from_regex(r"[A-Za-z0-9-]{1,20}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=40)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=20), st.sampled_from([b"\r\n", b"\n"]))
def test_fields_are_read_as_by_the_standard_library(fields: list[tuple[str, str]], end: bytes) -> None:
    """The fields have the same order, names and values as if the standard library had read them.

    The only difference is that white space around values is removed.
    """
    head = b"".join(f"{name}: {value}".encode("iso-8859-1") + end for name, value in fields) + end
    expected = [(name, value.strip(" \t")) for name, value in http.client.parse_headers(io.BytesIO(head)).items()]
    ours = parse_headers(io.BytesIO(head + b"the body"))
    assert ours.items() == expected
    assert all(ours.get(name.upper()) == ours.get(name.lower()) for name, _ in fields)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\n",
        b"Content-Length: 2",
        b"X: a\r\n continued\r\n\r\n",
        b"no field\r\n\r\n",
        b"Content-Length : 2\r\n\r\n",
        b": nameless\r\n\r\n",
        b"X: a\rContent-Length: 2\r\n\r\n",
        b"X: a\0b\r\n\r\n",
        b"X: " + b"x" * 65_536 + b"\r\n\r\n",
        b"X: 1\r\n" * 101 + b"\r\n",
    ],
    ids=[
        "end",
        "end in a line",
        "continued",
        "no colon",
        "space",
        "no name",
        "return",
        "nul",
        "long line",
        "many fields",
    ],
)
def test_a_malformed_head_is_refused(head: bytes) -> None:
    """A head that is incomplete or too long, or has a line that is not a header field, is refused."""
    with pytest.raises(http.client.HTTPException):
        parse_headers(io.BytesIO(head))


@pytest.mark.parametrize("value", [b"a" + b" " * 65_000 + b"b", b"\t" * 65_000, b" " * 65_000 + b"\r b"])
def test_a_long_line_of_white_space_is_read_quickly(value: bytes) -> None:
    """Even a line with a lot of white space is parsed within a second.

    This matters because no time limit could stop the parsing.
    """
    started = time.process_time()
    with suppress(http.client.HTTPException):
        parse_headers(io.BytesIO(b"X:" + value + b"\r\n\r\n"))
    assert time.process_time() - started < 1


def test_the_standard_library_reads_the_rest() -> None:
    """`HeadResponse` reads the fields with `parse_headers`, which refuses a line that continues the line before it."""

    class Socket:
        """The part of a socket that a response needs."""

        def makefile(self, _mode: str) -> io.BytesIO:
            """Returns a stream with the bytes of a response."""
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX: a\r\n b\r\n\r\nhi")

    with pytest.raises(http.client.HTTPException, match="not a header field"):
        HeadResponse(Socket()).begin()  # type: ignore[arg-type]
