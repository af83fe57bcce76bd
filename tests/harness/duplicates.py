"""The resolution of a duplicate by an operator."""

from tests.harness.app import App


def resolve(app: App, finding: int) -> str:
    """Resolves a duplicate with `duplicates resolve`, and returns the output of the command.

    `finding` is the number of the finding, which must be the only open one. A dry run comes first, and must not write
    anything to NOMIS.
    """
    before = len(app.sandbox.journal("nomis"))
    assert "dry run: nothing was changed" in app.run_ok("duplicates", "resolve", str(finding), "--dry-run")
    assert len(app.sandbox.journal("nomis")) == before
    output = app.run_ok("duplicates", "resolve", str(finding), answer="y\n")
    assert app.read_json("duplicates", "list") == []
    return output
