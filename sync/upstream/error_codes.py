"""The number by which a service tells its refusals of one status apart: `errorCode` of its error body."""

import orjson


def read_error_code(data: bytes) -> int | None:
    """The code in an error body, a number or its digits; None where there is none."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    code = body.get("errorCode") if isinstance(body, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdecimal():
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None
