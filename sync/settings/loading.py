"""Reads the settings. This is the only module that reads the environment of the process."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from sync.settings.declaration import Settings
from sync.settings.parsing import parse_address, parse_flag, parse_waits
from sync.settings.upstreams import UpstreamName
from sync.settings.variables import is_event_switch, is_reconciliation_switch, is_retry_wait

#: The advice that replaces the validator's own text, by kind of error. The error gives the values for the braces.
_ADVICE = {
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_parsing_size": "give a smaller whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "set it to true or false",
    "bool_parsing": "set it to true or false",
    "greater_than": "give a number above {gt:.10g}",
    "greater_than_equal": "give a number of at least {ge:.10g}",
    "less_than": "give a number below {lt:.10g}",
    "less_than_equal": "give a number up to {le:.10g}",
    "literal_error": "give {expected}",
}
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|SMTP_URL|DATABASE_URL|CONNECTION_STRING")
_LONGEST_SHOWN = 80


class SettingsError(Exception):
    """One or more settings cannot be used. A line for each gives its name, what is wrong and what to change."""


def load_settings(
    environment: Mapping[str, str] | None = None,
    further_errors: Callable[[Mapping[str, str]], list[str]] = lambda _environment: [],
) -> Settings:
    """Reads the settings from `environment`, or from the environment of the process if it is None.

    Raises `SettingsError` with a line for each value that cannot be used. In that case, `further_errors` adds lines
    about wrong values that only other parts of the program can detect, so that a single start reports all of them.
    """
    variables = {key.upper(): value for key, value in (os.environ if environment is None else environment).items()}
    # Kubernetes and compose files may set variables to an empty string, which counts as unset.
    values = {name: value for name in Settings.model_fields if (value := variables.get(name.upper(), "")) != ""}
    errors = _family_errors(variables)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            name = str(each["loc"][0]) if each["loc"] else "settings"
            errors.append(_error_line(name.upper(), values.get(name), each))
    if errors:
        raise SettingsError("\n".join([*errors, *further_errors(variables)]))
    return settings.with_environment(variables)


def _family_errors(variables: Mapping[str, str]) -> list[str]:
    """An error line for each wrong value among the variables that are checked without a field of `Settings`.

    These are the variables for the addresses of upstream services, the switches, and the waits before retries.
    """
    addresses = {name.address_variable for name in UpstreamName}
    errors = []
    for name, value in sorted(variables.items()):
        try:
            if name in addresses and value:
                parse_address(value)
            if (is_event_switch(name) or is_reconciliation_switch(name)) and value.strip():
                parse_flag(value)
            if is_retry_wait(name) and value:
                parse_waits(value)
        except ValueError as error:
            errors.append(_error_line(name, value, {"type": "value_error", "ctx": {"error": error}}))
    return errors


def _error_line(name: str, value: str | None, error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        reason = str(error["ctx"]["error"])
    else:
        reason = _ADVICE.get(error["type"], "give another value").format(**error.get("ctx", {}))
    return f"{name}: {_shown(name, value)}{reason}"


def _shown(name: str, value: str | None) -> str:
    """A wrong value as an error message shows it, or an empty string if it is unset or may contain a secret."""
    if value is None or _SECRET.search(name) or "@" in value or "?" in value:
        return ""
    return f"{value[:_LONGEST_SHOWN]!r}{'…' if len(value) > _LONGEST_SHOWN else ''}: "


def has_display() -> bool:
    """Whether there is a screen on which a browser could be opened."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def forget_proxies() -> None:
    """Removes the proxy variables from the environment of this process, which connects only to its own machine."""
    for name in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        del os.environ[name]


def log_more() -> None:
    """Sets `LOG_LEVEL` to INFO in the environment of this process, unless it is already DEBUG."""
    if os.environ.get("LOG_LEVEL") != "DEBUG":
        os.environ["LOG_LEVEL"] = "INFO"
