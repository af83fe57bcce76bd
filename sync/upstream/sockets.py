"""Sockets whose timeout limits a whole request and its response, not each piece of them."""

import math
import socket
import ssl
import struct
import time
from typing import Any

#: The limit of a piece may exceed what is left of the whole by a twentieth, since each change costs system calls.
_CLOSE_ENOUGH = 1.05


class _TotalTimeout(socket.socket):
    """A socket whose timeout limits everything that is sent or received from when it was set.

    A server that sends or takes some bytes now and then never exceeds a timeout for each piece.
    """

    _deadline = math.inf
    #: The limit of a single piece, in seconds.
    _limit: float | None = None

    def settimeout(self, value: float | None) -> None:
        """Sets the limit for all that follows, in seconds."""
        self._deadline = math.inf if value is None else time.monotonic() + value
        self._limit_piece(value)

    def recv_into(self, *args: Any) -> int:
        """Receives within what is left of the limit; raises `TimeoutError` when it has passed."""
        self._limit_next_piece()
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        """Sends within what is left of the limit; raises `TimeoutError` when it has passed."""
        self._limit_next_piece()
        return super().send(*args)

    def _limit_next_piece(self) -> None:
        if self._deadline < math.inf:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError("timed out")
            self._limit_piece(remaining)

    def _limit_piece(self, seconds: float | None) -> None:
        if seconds is None or self._limit is None or not seconds <= self._limit <= seconds * _CLOSE_ENOUGH:
            self._set_limit(seconds)
            self._limit = seconds

    def _set_limit(self, seconds: float | None) -> None:
        super().settimeout(seconds)


class TlsSocket(_TotalTimeout, ssl.SSLSocket):
    """A socket over TLS whose timeout limits the whole of what follows."""


class PlainSocket(_TotalTimeout):
    """A socket without TLS whose timeout limits the whole of what follows; the kernel enforces the limit.

    Python waits for the socket and then receives, and threads queue for the interpreter after each of the two: with 64
    messages in flight that slows a drain by a twentieth.
    """

    def recv_into(self, *args: Any) -> int:
        """Receives within the limit; raises `TimeoutError` when it has passed."""
        try:
            return super().recv_into(*args)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error

    def send(self, *args: Any) -> int:
        """Sends within the limit; raises `TimeoutError` when it has passed."""
        try:
            return super().send(*args)
        except BlockingIOError as error:
            raise TimeoutError("timed out") from error

    def sendall(self, data: Any, *args: Any) -> None:
        """Sends everything within the limit; the kernel limits each piece alone, and begins again with the next."""
        left = memoryview(data)
        while left:
            left = left[self.send(left, *args) :]

    def _set_limit(self, seconds: float | None) -> None:
        if self._limit is None:
            self.setblocking(True)
        # No time at all would be no limit.
        microseconds = 0 if seconds is None else max(1, int(seconds * 1_000_000))
        limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
