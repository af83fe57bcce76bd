"""Drains against unpatched moto.

They show that the patches with which the sandbox speeds up moto do not change the results of the other tests.
"""

from pathlib import Path

from sandbox import Sandbox
from sync.settings.queues import QUEUES
from tests.harness.app import open_application
from tests.harness.pipeline import settle
from tests.harness.waiting import in_thread, result_of


def test_every_queue_is_drained_from_unpatched_moto(unpatched_sandbox: Sandbox, tmp_path: Path) -> None:
    """With unpatched moto, drains bring each record to NOMIS exactly once, with the values from DPS.

    A malformed message becomes a dead letter.
    """
    sandbox = unpatched_sandbox
    sandbox.reset()
    with open_application(sandbox.environment(), f"sqlite:///{tmp_path}/app.db") as application:
        pairs = {queue: application.queue_pair(queue) for queue in QUEUES}
        sandbox.traffic(events=60, seed=3, duplicates=5, out_of_order=5)
        pairs["visit"].main.send("{not JSON")
        drains = {queue: application.open_drain(queue) for queue in QUEUES}
        # Moto has races between receivers of one queue, so each queue has only one drain. The drains run in parallel.
        for draining in [in_thread(settle, drains[queue], pair.main) for queue, pair in pairs.items()]:
            result_of(draining)
        assert sandbox.verify()["problems"] == []
        assert [queue for queue, pair in pairs.items() if pair.dlq.counts().total] == ["visit"]
        (dead,) = pairs["visit"].dlq.receive()
        assert dead.body == "{not JSON"
