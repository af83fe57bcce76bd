"""How a reconciliation waits, is stopped and is resumed, as the installed program does it."""

import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from benchmarks.forked_command import ForkedCommand
from sandbox import Sandbox
from tests.harness.app import App
from tests.harness.faults import faulty, held
from tests.harness.terminals import on_terminal
from tests.harness.waiting import LONGEST_SECONDS, until


def interrupted(installed: App, process: ForkedCommand) -> str:
    """Waits for the end of a process that was asked to stop, and returns the id of its run from the ledger.

    Checks that the last line of the log says how to resume the run.
    """
    assert process.wait(LONGEST_SECONDS) == 1
    (stopped,) = installed.run("runs", "list", "--json").json()
    assert stopped["status"] == "interrupted"
    complaint = (installed.folder / "log").read_text(encoding="utf-8").splitlines()[-1]
    assert complaint.endswith(f"resume with: prisoner-to-nomis reconcile incentives --resume {stopped['id']}")
    return str(stopped["id"])


def test_stopped_reconciliation_is_resumed(
    installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand]
) -> None:
    """A run that is stopped by SIGTERM says how it can be resumed, and the list of runs shows how much it had read.

    The resumed run skips the finished pages.
    """
    sandbox.reset(prisoners=120)
    installed.make_queues()
    settings = {"REPORTS_INCENTIVES_RECONCILIATION_PAGE_SIZE": "20", "RECONCILIATION_CONCURRENCY": "4"}
    with held(sandbox, "nomis", path="/incentives/booking-id/{booking}/current", times=None, skip=70) as fourth_page:
        process = running("reconcile", "incentives", "--no-notify", **settings)
        fourth_page.wait_for_request()
        # A call of the third page may be held too, if the machine is busy and its thread was late.
        until(lambda: kept_pages(installed) >= 2, "two pages are stored")
        sandbox.latency(300, "nomis")
        process.send_signal(signal.SIGTERM)
    run_id = interrupted(installed, process)
    last = installed.run("runs", "list").out.splitlines()[-1]
    assert re.search(rf"^{run_id} was interrupted after .*, with (33|50|66|83)% read; to resume it: .* {run_id}$", last)
    sandbox.latency(0, "nomis")
    resumed = installed.run("reconcile", "incentives", "--no-notify", "--resume", run_id, "--json", **settings)
    assert (resumed.code, resumed.json()["compared"]) == (0, 120), resumed.err
    assert reads(sandbox) <= 120 + 2 * 20 + 4  # two pages being read, one page waiting, and calls in progress


@pytest.mark.parametrize("service", ["incentives", "nomis"])
def test_a_run_that_waits_for_a_service_can_be_stopped(
    installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand], service: str
) -> None:
    """While a service is down, a signal ends a run promptly. The last line of the log says how to resume the run."""
    sandbox.reset(prisoners=60)
    path = {"nomis": "/incentives/booking-id/{booking}/current", "incentives": None}[service]
    sandbox.fault(service, path=path, kind="status", status=503)
    process = running("reconcile", "incentives", "--no-notify", REPORTS_INCENTIVES_RECONCILIATION_PAGE_SIZE="20")
    until(lambda: "upstream-down" in (installed.folder / "log").read_text(encoding="utf-8"), "the service is down")
    process.send_signal(signal.SIGINT)
    interrupted(installed, process)


def test_a_terminal_shows_that_the_run_waits(installed: App, sandbox: Sandbox) -> None:
    """On a terminal, the progress says for which service a run waits, since when, and for how long at most."""
    sandbox.reset(prisoners=60)
    with (
        faulty(sandbox, "nomis", path="/incentives/booking-id/{booking}/current", kind="status", status=503),
        on_terminal(installed, "reconcile", "incentives", "--no-notify") as command,
    ):
        # A long description is wrapped, with the bar between its lines.
        wait = r"reading, waiting up to 10 min: .*?nomis has counted as down since \d\d \w+ \d\d:\d\d"

        def words() -> str:
            return " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", command.shown).split())

        until(lambda: re.search(wait, words()) is not None, "the progress says that the run waits")


def test_retries_of_a_job_resume_the_run_and_announce_it_once(installed: App, sandbox: Sandbox) -> None:
    """If a prisoner cannot be read, all three attempts of a Job exit 1, but only one report is announced.

    A retry does not read the other prisoners again, and succeeds once that prisoner can be read.
    """
    sandbox.reset(prisoners=40, mismatches={"7": 1})
    installed.make_queues()
    booking = sandbox.prisoners()[3]["bookingId"]
    sandbox.fault("nomis", "GET", f"/incentives/booking-id/{booking}/current$", kind="status", status=400)
    codes = [installed.run("reconcile", "incentives", "--resume", "last").code for _ in range(3)]
    assert codes == [1, 1, 1]
    summaries = [each for each in sandbox.slack()["messages"] if "The report is in" in each["text"]]
    assert len(summaries) == 1
    assert reads(sandbox) <= 40 + 3 * 2
    sandbox.clear_faults()
    assert installed.run("reconcile", "incentives", "--resume", "last").code == 0


def test_a_stopped_shard_says_how_to_resume_the_run_that_it_joined(
    installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand]
) -> None:
    """If a shard that joined a run is stopped, it gives the command that resumes this shard of that run.

    `runs show` of the stopped shard gives the command too, with the number of the shard left open.
    """
    sandbox.reset(prisoners=60)
    pages = {"REPORTS_INCENTIVES_RECONCILIATION_PAGE_SIZE": "10"}
    options = ("reconcile", "incentives", "--shards", "2", "--no-notify")
    begun = installed.run(*options, "--shard", "0", "--json", **pages).json()["runId"]
    with held(sandbox, "nomis", path="/incentives/booking-id/{booking}/current", times=None) as hold:
        process = running(*options, "--shard", "1", **pages)
        hold.wait_for_request()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_SECONDS) == 1
    resume = f"prisoner-to-nomis reconcile incentives --resume {begun} --shards 2 --shard 1"
    assert (installed.folder / "log").read_text(encoding="utf-8").splitlines()[-1].endswith(f"resume with: {resume}")
    stopped = next(each for each in installed.run("runs", "list", "--json").json() if each["status"] == "interrupted")
    assert f"--resume {begun} --shards 2 --shard NUMBER" in installed.run("runs", "show", stopped["id"]).out
    assert installed.run(*resume.split()[1:], "--no-notify", **pages).code == 0


def test_pod_of_an_indexed_job_knows_its_shard(installed: App, sandbox: Sandbox) -> None:
    """With `--shards`, each pod takes the shard given by its index, unless `--shard` gives another.

    Without `--shards`, the index is ignored.
    """
    sandbox.reset(prisoners=60)
    shards = ("reconcile", "incentives", "--shards", "2", "--no-notify", "--json")
    assert installed.run(*shards, JOB_COMPLETION_INDEX="1").json()["status"] == "unfinished shard"
    assert installed.run(*shards, JOB_COMPLETION_INDEX="1").json()["status"] == "unfinished shard"
    assert installed.run(*shards, "--shard", "0", JOB_COMPLETION_INDEX="1").json()["compared"] == 60
    beyond = installed.run(*shards, JOB_COMPLETION_INDEX="2")
    assert (beyond.code, "there is no shard 2 of 2" in beyond.err) == (2, True)
    assert installed.run("reconcile", "incentives", "--no-notify", JOB_COMPLETION_INDEX="1").code == 0


def test_resuming_with_a_filter_is_bad_usage(installed: App) -> None:
    """`--resume` is refused with a prison or a prisoner.

    Otherwise, somebody might think that such a filter limits the resumed run.
    """
    for option in (("--prison", "MDI"), ("--prisoner", "A1234BC")):
        run = installed.run("reconcile", "incentives", "--resume", "20260101-000000-abcd", *option)
        assert (run.code, "leave out --prison, --prisoner and days" in run.err) == (2, True)


def test_a_run_that_cannot_be_resumed_is_bad_usage(installed: App) -> None:
    """`--resume` refuses an unknown id and the id of a complete run, and no run starts."""
    unknown = installed.run("reconcile", "incentives", "--resume", "nope")
    assert (unknown.code, unknown.error) == (
        2,
        "prisoner-to-nomis: there is no reconciliation nope; see: prisoner-to-nomis runs list",
    )
    assert installed.run("runs", "list", "--json").json() == []
    done = installed.run("reconcile", "incentives", "--no-notify", "--json").json()["runId"]
    complete = installed.run("reconcile", "incentives", "--resume", done)
    assert (complete.code, complete.error) == (
        2,
        f"prisoner-to-nomis: reconciliation {done} is complete; there is nothing to resume",
    )
    assert len(installed.run("runs", "list", "--json").json()) == 1


def test_a_process_that_lost_its_run_ends(
    installed: App, sandbox: Sandbox, running: Callable[..., ForkedCommand]
) -> None:
    """If a process is suspended and another takes over its run, the first exits 1 when it continues.

    It logs one line that says why.
    """
    sandbox.reset(prisoners=200)
    sandbox.latency(50, "nomis")
    settings = {
        "REPORTS_INCENTIVES_RECONCILIATION_PAGE_SIZE": "20",
        "RECONCILIATION_CONCURRENCY": "2",
    }
    # Only the suspended process may lose its run, however slow the machine.
    slept = running("reconcile", "incentives", "--no-notify", LEASE_SECONDS="2", **settings)
    until(lambda: reads(sandbox) >= 30, "the second page begins")
    slept.send_signal(signal.SIGSTOP)
    (run,) = installed.run("runs", "list", "--json").json()
    sandbox.latency(0, "nomis")

    def taken_over() -> bool:
        resumed = installed.run("reconcile", "incentives", "--no-notify", "--resume", run["id"], **settings)
        assert resumed.code == 0 or "in progress" in resumed.err
        return resumed.code == 0

    until(taken_over, "the run is taken over")
    slept.send_signal(signal.SIGCONT)
    assert slept.wait(60) == 1
    complaint = (installed.folder / "log").read_text(encoding="utf-8").splitlines()[-1]
    assert complaint.startswith("prisoner-to-nomis: this process was suspended for too long")
    assert "Traceback" not in (installed.folder / "log").read_text(encoding="utf-8")


def kept_pages(installed: App) -> int:
    """The number of finished pages in the database, for all runs together."""
    with closing(sqlite3.connect(installed.database)) as connection:
        return int(connection.execute("SELECT count(*) FROM reconciliation_pages").fetchone()[0])


def reads(sandbox: Sandbox) -> int:
    """The number of calls to NOMIS that each read the level of a single prisoner."""
    return sum(seen["path"].endswith("/current") for seen in sandbox.requests("nomis"))
