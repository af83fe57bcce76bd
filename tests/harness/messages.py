"""The content of the messages that a run sends to Slack and by email."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.presentation.email_report import EmailReport
    from reports.presentation.slack_report import SlackReport


def channel_text(report: SlackReport) -> str:
    """The text of the post in the channel itself."""
    return report.posts[0].text


def thread_text(report: SlackReport) -> str:
    """The text of the replies in the post's thread."""
    return "\n".join(each.text for each in report.posts[1:])


def attached(report: SlackReport | EmailReport, kind: str) -> str:
    """The content of the attached file of the given kind, or an empty text if there is no such file."""
    return next((each.content for each in report.files if each.kind == kind), "")
