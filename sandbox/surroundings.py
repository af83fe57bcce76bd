"""What of the shell's environment the processes of the sandbox see: nothing that leads to a real AWS or to a proxy."""

from __future__ import annotations

import os
from collections.abc import Mapping

PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


def shielded(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without proxies and settings of AWS, of which a profile that is not there breaks boto3."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("AWS_") and name.lower() not in PROXIES
    }
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
