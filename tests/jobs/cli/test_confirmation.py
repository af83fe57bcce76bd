"""The confirmation that a command asks for before a change, at a terminal or through a pipe."""

import io
from pathlib import Path

import pytest

from jobs.cli.confirmation import confirm
from jobs.errors import UsageError
from sandbox import Sandbox
from sync.events.envelope import write_domain_event
from tests.harness.app import App, make_app
from tests.harness.commands import Terminal

NOBODY = "prisoner-to-nomis: no answer to the question: add --yes, or --dry-run to see what the command would do"


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation with one dead letter, which is about a visit."""
    made = make_app(sandbox, tmp_path, sqlite_template)
    made.queues()["visit"].dlq.send(write_domain_event("prison-visit.booked", {"reference": "v1"}, "A1234BC", "x"))
    return made


def test_a_question_that_nobody_answers_is_bad_usage(app: App) -> None:
    """If nobody answers a command's question, the command changes nothing.

    It says how to confirm the change, and exits with 2.
    """
    done = app.run("dlq", "purge", "visit", "--as", "jane")
    assert (done.code, done.errors[-1]) == (2, NOBODY)
    assert "Aborted" not in done.err
    assert (app.messages("visit"), app.actions()) == (1, [])


def test_a_command_without_a_dry_run_does_not_propose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a command has no `--dry-run`, its error about a missing answer proposes only `--yes`."""
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match=r"add --yes$"):
        confirm("Continue?", yes=False, dry_run=None)


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("", 2)])
def test_the_answer_no_ends_the_command(app: App, answer: str, code: int) -> None:
    """If the answer to a command's question is no or empty, the command changes nothing and exits with 1.

    If the terminal is closed before an answer is typed, the command also changes nothing, and exits with 2.
    """
    done = app.run("dlq", "purge", "visit", "--as", "jane", answer=Terminal(answer))
    assert (done.code, app.messages("visit")) == (code, 1)
    assert done.errors[-1] == ("Aborted!" if code == 1 else NOBODY)


def test_an_answer_may_come_from_a_pipe(app: App) -> None:
    """The answer to a command's question may come through a pipe, as with `yes | …`."""
    assert "1 message removed" in app.run_ok("dlq", "purge", "visit", "--as", "jane", answer="y\n")


def test_a_redrive_needs_no_terminal(app: App) -> None:
    """If there is no terminal, `dlq retry` redrives dead letters without asking a question.

    If the terminal is closed before an answer is typed, the command says how to confirm the redrive, and exits with 2.
    """
    closed = app.run("dlq", "retry", "visit", "--as", "jane", answer=Terminal(""))
    assert (closed.code, closed.errors[-1]) == (2, NOBODY)
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry", "visit", "--as", "jane")
