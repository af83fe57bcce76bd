"""The texts of alerts: what operators know them by, with everything that is needed to act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.presentation.text import Masking
from reports.reconciliations.views import ALERT_TEXTS
from sync.domains.registry import DOMAINS, row_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Event → the text that operators and dashboards know; `{environment}` is the name of the environment.
TEXTS = {
    **{
        f"to-nomis-synch-{domain.record}-duplicate": (
            f"To NOMIS synchronisation duplicate {domain.noun} detected in {{environment}}"
        )
        for domain in DOMAINS.values()
    },
    **{kind.event_name: f"{kind.alert} in {{environment}}" for kind in row_kinds().values()},
    "dead-letter-given-up": "Messages cannot be applied to NOMIS by themselves and need a person in {environment}",
    **{
        f"{domain.record}-create-ambiguous": f"Nobody can tell whether NOMIS has a new {domain.noun} in {{environment}}"
        for domain in DOMAINS.values()
    },
    **ALERT_TEXTS,
}
#: Characters of a property in a message; Slack refuses messages that are far too long.
_LONGEST_PROPERTY = 1_000
_NOT_RUN = "A reconciliation could not run in {environment}: {event}"
_OTHERS = "To NOMIS synchronisation needs attention in {environment}: {event}"


def alert_title(event: str, environment: str) -> str:
    """The text an alert is known by."""
    otherwise = _NOT_RUN if event.endswith("-not-run") else _OTHERS
    return TEXTS.get(event, otherwise).format(environment=environment, event=event)


def slack_text(text: str) -> str:
    """A text on one line in which Slack sees no link, mention, command or code of its own."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text.replace("`", "'"))
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_code(text: str) -> str:
    """A text to be copied as it is."""
    return f"`{slack_text(text)}`"


def alert_message(payload: Mapping[str, Any], environment: str, masking: Masking) -> str:
    """The Slack message of one alert: event, time, properties, domain, severity, and the command proposed."""
    event = str(payload["event"])
    lines = [f"*{slack_text(alert_title(event, environment))}*"]
    facts = [event, str(payload["time"])]
    facts += [f"{name} {payload[name]}" for name in ("domain", "severity") if payload.get(name)]
    lines.append(slack_text(" · ".join(facts)))
    for name, value in dict(payload.get("properties") or {}).items():
        shown = _property(str(name), str(value), masking)
        cut = shown if len(shown) <= _LONGEST_PROPERTY else f"{shown[:_LONGEST_PROPERTY]}…"
        lines.append(f"{slack_text(str(name))}: {slack_text(cut)}")
    if payload.get("command"):
        lines.append(slack_code(masking.text(str(payload["command"]))))
    if payload.get("link"):
        lines.append(slack_text(str(payload["link"])))
    return "\n".join(lines)


def _property(name: str, value: str, masking: Masking) -> str:
    if masking.on and "booking" in name.lower():
        return masking.booking(int(value)) if value.isdigit() else masking.text(value)
    return masking.text(value)
