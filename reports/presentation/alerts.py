"""The Slack message for an alert: what happened, what it means and which command to run.

The details of the event, such as ids, follow in small print.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from reports.presentation.slack_blocks import MessageBlock, context, header, messages, section, slack_code, slack_text
from reports.presentation.text import short_moment
from reports.reconciliations.incentives.events import ALERTS
from reports.reconciliations.registry import RECONCILIATIONS
from sync.alerting import Severity
from sync.domains.registry import DOMAINS, row_kinds
from sync.repair.finding_text import finding_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reports.presentation.masking import Masking
    from reports.presentation.slack_blocks import SlackMessage

#: The titles of alerts by event. Operators and dashboards rely on them; `{environment}` is the environment's name.
TEXTS = {
    **{
        f"to-nomis-synch-{domain.record}-duplicate": (
            f"To NOMIS synchronisation duplicate {domain.noun} detected in {{environment}}"
        )
        for domain in DOMAINS.values()
    },
    **{kind.event_name: f"{kind.alert} in {{environment}}" for kind in row_kinds().values()},
    "dead-letter-given-up": "Messages that could not be applied to NOMIS need attention in {environment}",
    **{
        f"{domain.record}-create-ambiguous": f"Nobody can tell whether NOMIS has a new {domain.noun} in {{environment}}"
        for domain in DOMAINS.values()
    },
    "contract-drift": "The API of an upstream service has changed in {environment}",
    **ALERTS,
}
#: The most characters in a property, and in each part of an alert, so that an alert fits into one message.
_LONGEST_PROPERTY = 500
_LONGEST_PART = 1_600
_NOT_RUN = "A reconciliation could not run in {environment}: {event}"
_OTHERS = "To NOMIS synchronisation needs attention in {environment}: {event}"


def alert_title(event: str, environment: str) -> str:
    """The title of the alert for an event."""
    otherwise = _NOT_RUN if event.endswith("-not-run") else _OTHERS
    return TEXTS.get(event, otherwise).format(environment=environment, event=event)


def alert_message(payload: Mapping[str, Any], environment: str, masking: Masking) -> SlackMessage:
    """The Slack message for an alert.

    payload: the alert as stored in the outbox: `event`, `time`, `properties`, and, if known, `domain`, `severity`,
    `command` and `link`.
    """
    return messages(_parts(payload, environment, masking))[0]


def _parts(payload: Mapping[str, Any], environment: str, masking: Masking) -> Iterator[MessageBlock]:
    event = str(payload["event"])
    yield header(alert_title(event, environment))
    sentences = _sentences(payload, masking)
    command = slack_code(masking.text(str(payload["command"]))) if payload.get("command") else ""
    link = slack_text(str(payload["link"])) if payload.get("link") else ""
    if sentences or command or link:
        yield section(sentences, command, link, longest=_LONGEST_PART)
    properties = _properties(payload, masking)
    yield context(slack_text(" · ".join(_facts(payload))), *properties, longest=_LONGEST_PART)


def _sentences(payload: Mapping[str, Any], masking: Masking) -> str:
    """What happened and what it means, in Slack's markup, or empty if the title says everything."""
    event, properties = str(payload["event"]), dict(payload.get("properties") or {})
    if event == "contract-drift":
        return (
            f"The API documents of these services have changed: {slack_text(', '.join(properties))}. An error means "
            "that calls fail or that responses are misread. A warning means that this may happen. To see each "
            "difference, run:"
        )
    if not event.endswith("-not-run"):
        return slack_text(masking.text(finding_text(event, properties) or ""))
    name = str(payload.get("domain", ""))
    entry = RECONCILIATIONS.get(name)
    reason = str(properties.get("reason", "the log says why")).rstrip(".")
    what = entry.title[:1].lower() + entry.title[1:] if entry else name
    return (
        f"The reconciliation of {slack_text(what)} has no result: {slack_text(masking.text(reason))}. "
        "Until it runs, differences between NOMIS and DPS go unnoticed. When `prisoner-to-nomis check` reports that "
        "everything is up, run the reconciliation again:"
    )


def _facts(payload: Mapping[str, Any]) -> Iterator[str]:
    yield str(payload["event"])
    yield _time(str(payload["time"]))
    if payload.get("domain"):
        yield f"domain {payload['domain']}"
    if payload.get("severity"):
        yield _severity(str(payload["severity"]))


def _time(text: str) -> str:
    try:
        return short_moment(datetime.fromisoformat(text))
    except ValueError:
        return text


def _severity(text: str) -> str:
    try:
        severity = Severity(text)
    except ValueError:
        return f"severity {text}"
    return f"severity {severity}: {severity.act}"


def _properties(payload: Mapping[str, Any], masking: Masking) -> Iterator[str]:
    """Yields a line for each property of the event, such as an id."""
    for name, value in dict(payload.get("properties") or {}).items():
        shown = _property(str(name), str(value), masking)
        cut = shown if len(shown) <= _LONGEST_PROPERTY else f"{shown[:_LONGEST_PROPERTY]}…"
        yield f"{slack_text(str(name))}: {slack_text(cut)}"


def _property(name: str, value: str, masking: Masking) -> str:
    if masking.on and "booking" in name.lower():
        return masking.booking(int(value)) if value.isdigit() else masking.text(value)
    return masking.text(value)
