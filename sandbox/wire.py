"""Answers that go wrong on the wire: dropped, cut short, dripping, or in an unusual coding."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct

from aiohttp import web

from sandbox.faults import Fault

NO_LINGER = struct.pack("ii", 1, 0)
DRIPS = 20


def drop(http: web.BaseRequest) -> web.StreamResponse:
    """Reset the connection without an answer; the returned response only carries status 0 into the log of requests."""
    transport = http.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        transport.abort()
    return Dropped()


class Dropped(web.Response):
    """Stands for an answer that never goes out."""

    @property
    def status(self) -> int:
        """Return 0: there was no status."""
        return 0


async def answer_badly(fault: Fault, response: web.Response, http: web.BaseRequest) -> web.StreamResponse:
    """Send a good response in the way that the fault spoils it."""
    body = bytes(response.body) if isinstance(response.body, bytes) else b""
    headers = {"Content-Type": response.content_type}
    if fault.kind == "empty":
        return web.Response(status=response.status)
    if fault.kind == "html":
        page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        return web.Response(body=page, status=response.status, headers={"Content-Type": "text/html"})
    if fault.kind == "gzip":
        return web.Response(
            body=gzip.compress(body), status=response.status, headers={**headers, "Content-Encoding": "gzip"}
        )
    stream = web.StreamResponse(status=response.status, headers=headers)
    if fault.kind == "chunked":
        stream.enable_chunked_encoding()
    else:
        stream.content_length = max(len(body), 1)
    await stream.prepare(http)
    if fault.kind == "truncated":
        await stream.write(body[: len(body) // 2])
        return drop(http)
    size = max(1, len(body) // DRIPS)
    for start in range(0, len(body), size):
        await stream.write(body[start : start + size])
        if fault.kind == "trickle":
            await asyncio.sleep((fault.ms or 50) / 1000)
    await stream.write_eof()
    return stream
