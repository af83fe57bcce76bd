"""The errors of commands, and the exit codes: 0 for success, 1 if the work failed, 2 for bad usage or bad settings."""

SUCCESS = 0
WORK_FAILED = 1
BAD_USAGE = 2


class WorkError(Exception):
    """The work itself failed; the text is one line for stderr."""


class OutcomeUnknown(WorkError):
    """The work ended with an error, but may have been done, wholly or in part."""


class PlanChanged(WorkError):
    """The plan has changed since it was confirmed, so nothing was done."""


class UsageError(Exception):
    """The command cannot do what was asked. The text is one line that says what to change."""


class StopRequested(BaseException):
    """The work was asked to stop before its end. Finished parts are kept, and the work can be resumed.

    Not an `Exception`, so that no handler mistakes it for a failure of the work.
    """


def exit_code_for(error: Exception) -> tuple[int, str]:
    """The exit code for `error`, and the text for stderr: one line, or one line for each wrong setting."""
    from sync.errors import one_line
    from sync.settings.loading import SettingsError

    if isinstance(error, SettingsError):
        return BAD_USAGE, "\n".join(" ".join(line.split()) for line in str(error).splitlines())
    return BAD_USAGE if isinstance(error, UsageError) else WORK_FAILED, one_line(error)
