"""How a command ends: 0 when its work succeeded, 1 when the work failed, 2 when it was asked wrongly."""

SUCCESS = 0
WORK_FAILED = 1
BAD_USAGE = 2


class WorkError(Exception):
    """The work itself failed; the text is one line for the person who reads stderr."""


class OutcomeUnknown(WorkError):
    """The work failed, and it may have been done all the same, or a part of it."""


class UsageError(Exception):
    """The command was asked for something it cannot do; the text is one line that says what to ask instead."""


class StopRequested(BaseException):
    """The work was asked to stop before its end; what is finished is kept, and it can be gone on with.

    No `Exception`, so that nothing takes it for a failure of the work.
    """


def one_line(error: BaseException) -> str:
    """The text of one of our own errors on one line; of all others the kind and the place (see `told`)."""
    from sync.failures import told

    return told(error)


def exit_code_for(error: Exception) -> tuple[int, str]:
    """Exit code and the one line for stderr that `error` ends a command with; a line for each wrong setting."""
    from sync.failures import SyncError
    from sync.settings.loading import SettingsError

    if isinstance(error, SettingsError):
        return BAD_USAGE, "\n".join(" ".join(line.split()) for line in str(error).splitlines())
    if isinstance(error, UsageError):
        return BAD_USAGE, one_line(error)
    if isinstance(error, (WorkError, SyncError)):
        return WORK_FAILED, one_line(error)
    return WORK_FAILED, one_line(error)
