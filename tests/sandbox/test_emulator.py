"""The emulator of AWS serves several calls on one connection, and stores objects of any size."""

from __future__ import annotations

import http.client
import socket
from typing import Any
from urllib.parse import urlsplit

import boto3

from sandbox import Sandbox


def test_connections_stay_open(sandbox: Sandbox) -> None:
    """One connection serves several requests, even if one of them is refused."""
    connection = http.client.HTTPConnection(sandbox.emulator_url.removeprefix("http://"), timeout=30)
    sockets = set()
    for path, status in (("/moto-api/data.json", 200), ("/moto-api/nothing", 404), ("/moto-api/data.json", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        sockets.add(connection.sock)
        assert response.status == status
    assert len(sockets) == 1
    connection.close()


def test_an_upload_need_not_wait_for_permission(sandbox: Sandbox) -> None:
    """A client that asks for permission to send the body of its request gets permission at once, as from S3 itself."""
    where = urlsplit(sandbox.emulator_url)
    assert where.hostname is not None
    head = "PUT /reports HTTP/1.1\r\nHost: reports\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection((where.hostname, where.port or 80), timeout=30) as connection:
        connection.sendall(head.encode())
        # The body has not been sent, so nothing but the permission can be the first line.
        assert connection.makefile("rb").readline() == b"HTTP/1.1 100 Continue\r\n"


def test_objects_of_any_size_are_stored(sandbox: Sandbox) -> None:
    """An upload of any size arrives complete, even if the client first asks for permission to send it.

    The next upload arrives complete too.
    """
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "eu-west-2"}
    s3: Any = boto3.session.Session(**keys).client("s3", endpoint_url=sandbox.emulator_url)
    s3.create_bucket(Bucket="reports", CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
    for body in (b"", b"x" * 3_000_000, b"small"):
        s3.put_object(Bucket="reports", Key="page", Body=body)
        assert s3.head_object(Bucket="reports", Key="page")["ContentLength"] == len(body)
        assert s3.get_object(Bucket="reports", Key="page")["Body"].read() == body
