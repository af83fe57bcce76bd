"""With the sandbox's patches, moto's SQS counts, hides, delays and expires messages as unpatched moto does.

The patches also let several threads use a queue at once.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import boto3
import pytest

from sandbox import Sandbox

BOTH_WAYS = """
from datetime import datetime
from moto.core.utils import unix_time_millis
from moto.sqs.models import sqs_backends
import sys

if sys.argv[1] == "quick":
    from sandbox.aws.moto_patches import apply_patches, milliseconds
    apply_patches()
    assert milliseconds(datetime(2023, 5, 22)) == unix_time_millis(datetime(2023, 5, 22))
backend = sqs_backends["123456789012"]["eu-west-2"]
queue = backend.create_queue("q", {})
for number in range(12):
    backend.send_message("q", str(number), delay_seconds=900 if number >= 9 else None)
backend.send_message("q", "old").sent_timestamp = 0
taken = backend.receive_message("q", 4, 0, 120)
counts = backend.get_queue_attributes("q", [
    "ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible",
])
rest = [message.body for message in backend.receive_message("q", 10, 0, 120)]
print([message.body for message in taken], counts, rest)
"""


def test_patched_and_original_functions_agree() -> None:
    """The patched moto receives, hides, delays, expires and counts the same messages as the original."""
    result = [
        subprocess.run([sys.executable, "-c", BOTH_WAYS, way], capture_output=True, text=True, check=True).stdout
        for way in ("slow", "quick")
    ]
    assert result[0] == result[1]
    assert "'ApproximateNumberOfMessagesDelayed': 3" in result[0]


@pytest.fixture
def sqs(sandbox: Sandbox) -> Any:
    """A client of the emulator's SQS."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "eu-west-2"}
    return boto3.session.Session(**keys).client("sqs", endpoint_url=sandbox.emulator_url)


def test_a_message_moves_to_the_dlq_after_its_last_receive(sqs: Any) -> None:
    """A received message that is made visible again can be received again.

    Once it has been received `maxReceiveCount` times, it moves to the dead letter queue instead.
    """
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 2}}'
    main = sqs.create_queue(QueueName="main", Attributes={"RedrivePolicy": redrive})["QueueUrl"]
    sqs.send_message(QueueUrl=main, MessageBody="hello")
    for _ in range(2):
        received = sqs.receive_message(QueueUrl=main)["Messages"]
        assert sqs.receive_message(QueueUrl=main).get("Messages", []) == []
        handle = received[0]["ReceiptHandle"]
        sqs.change_message_visibility(QueueUrl=main, ReceiptHandle=handle, VisibilityTimeout=0)
    assert sqs.receive_message(QueueUrl=main).get("Messages", []) == []
    assert sqs.receive_message(QueueUrl=dead)["Messages"][0]["Body"] == "hello"


SEND_AND_DELETE = """
import sys
import threading
from moto.sqs.models import sqs_backends

if sys.argv[1] == "quick":
    from sandbox.aws.moto_patches import apply_patches
    apply_patches()
backend = sqs_backends["123456789012"]["eu-west-2"]
queue = backend.create_queue("q", {})
backend.send_message("q", "old")
[taken] = backend.receive_message("q", 1, 0, 120)
sender = threading.Thread(target=backend.send_message, args=("q", "new"))

class Watched(list):
    def __iter__(self):
        yield from list.__iter__(self)
        if threading.current_thread() is threading.main_thread() and sender.ident is None:
            sender.start()
            # Where the deletion locks the sender out, there is nothing to wait for.
            sender.join(0.5 if sys.argv[1] == "quick" else 60)

queue._messages = Watched(queue._messages)
queue.delete_message(taken.receipt_handle)
if sender.ident is None:
    raise SystemExit("nothing was sent during the deletion")
sender.join()
print([message.body for message in queue._messages])
"""


def test_a_message_sent_during_a_deletion_is_not_lost() -> None:
    """A message sent while another thread deletes a different message stays on the queue.

    With unpatched moto, it is lost.
    """
    result = {
        way: subprocess.run(
            [sys.executable, "-c", SEND_AND_DELETE, way], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
        for way in ("slow", "quick")
    }
    assert result == {"slow": "[]", "quick": "['new']"}


RECEIVE_TOGETHER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from moto.sqs.models import sqs_backends
from sandbox.aws.moto_patches import apply_patches

apply_patches()
# Threads take turns so often that what is not protected breaks at once.
sys.setswitchinterval(1e-6)
backend = sqs_backends["123456789012"]["eu-west-2"]
queue = backend.create_queue("q", {})
for number in range(400):
    backend.send_message("q", str(number))

def receive(_worker):
    mine = []
    while found := backend.receive_message("q", 10, 0, 120):
        mine.extend(found)
    for message in mine[::2]:
        backend.change_message_visibility("q", message.receipt_handle, 0)
    return [message.body for message in mine]

with ThreadPoolExecutor(8) as pool:
    bodies = [body for mine in pool.map(receive, range(8)) for body in mine]
print(len(bodies) >= 400, len(set(bodies)))
"""


def test_parallel_receivers_get_every_message() -> None:
    """Parallel receivers, which also make messages visible again, together get every message, without an error."""
    done = subprocess.run([sys.executable, "-c", RECEIVE_TOGETHER], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True 400", 0), done.stderr


SHOWN_AGAIN = """
import threading
from moto.sqs.models import sqs_backends
from sandbox.aws.moto_patches import apply_patches

apply_patches()
backend = sqs_backends["123456789012"]["eu-west-2"]
backend.create_queue("q", {})
backend.send_message("q", "hello")
[taken] = backend.receive_message("q", 1, 0, 120)
found = []
waiting = threading.Thread(target=lambda: found.extend(backend.receive_message("q", 1, 100_000, 120)))
waiting.start()
backend.change_message_visibility("q", taken.receipt_handle, 0)
waiting.join()
print([message.body for message in found])
"""


def test_a_released_message_ends_a_wait() -> None:
    """A waiting receiver gets a message soon after another receiver has made it visible again."""
    done = subprocess.run([sys.executable, "-c", SHOWN_AGAIN], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "['hello']"
