"""The head of an HTTP response, parsed line by line rather than with a mail parser.

`http.client` leaves the parsing of the header fields to the package `email`, which allows for everything that mail can
contain. Parsing with `email` would take a fifth of the CPU time of a call, and more with each field.
"""

import http.client
import re
from types import FunctionType
from typing import BinaryIO

#: The limits of `http.client`: bytes in a line and fields in a head.
_LINE_BYTES = 65_536
_FIELDS = 100
#: A field according to RFC 9112, section 5: a name without white space, a colon, and a value on the same line. White
#: space around the value is removed afterwards: a regular expression that also removed it could take seconds if there
#: were a lot of it.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)\r?\n")


def parse_headers(stream: BinaryIO, **_limits: object) -> http.client.HTTPMessage:
    """The header fields up to the empty line that ends them.

    Raises `http.client.HTTPException` if a line is not a field (for example, because it continues the line before) or
    is too long, if there are too many fields, or if the stream ends early.
    """
    message = http.client.HTTPMessage()
    for _ in range(_FIELDS + 1):
        line = stream.readline(_LINE_BYTES + 1)
        if line in (b"\r\n", b"\n"):
            return message
        field = _FIELD.fullmatch(line)
        if field is None:
            raise http.client.HTTPException("a line of the response is not a header field")
        message.set_raw(field[1].decode("ascii"), field[2].strip(b" \t").decode("iso-8859-1"))
    raise http.client.HTTPException(f"the response has more than {_FIELDS} header fields")


class HeadResponse(http.client.HTTPResponse):
    """The standard library's HTTP response, except that `parse_headers` above parses the header fields."""

    begin = FunctionType(
        http.client.HTTPResponse.begin.__code__, {**vars(http.client), "parse_headers": parse_headers}, "begin"
    )
    begin.__kwdefaults__ = http.client.HTTPResponse.begin.__kwdefaults__
