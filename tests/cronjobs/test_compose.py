"""The containers in which developers run the program and the services that it calls."""

from __future__ import annotations

from typing import Any

import yaml

from sandbox.application_insights import connection_string
from sandbox.engine import Engine
from sandbox.options import Options
from sync.settings.declaration import variables
from sync.settings.loading import load_settings
from tests.harness.manifests import ROOT

#: Variables that boto3 reads, not the program.
AWS = {
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}


def compose() -> dict[str, Any]:
    """The content of `compose.yaml`."""
    content: dict[str, Any] = yaml.safe_load((ROOT.parent / "compose.yaml").read_text())
    return content


def test_the_program_finds_the_sandbox_in_its_container() -> None:
    """The scheduler's container has the settings that the sandbox prints when its ports are fixed."""
    engine = Engine(Options(prisoners=1), "http://localstack:4566")
    engine.host = "sandbox"
    engine.ports = {name: 8101 + place for place, name in enumerate(engine.services)}
    environment = compose()["services"]["scheduler"]["environment"]
    try:
        assert engine.environment().items() <= environment.items()
        insights = connection_string(engine.url("application-insights"))
        assert environment["APPLICATIONINSIGHTS_CONNECTION_STRING"] == insights
    finally:
        engine.topic.close()


def test_every_setting_of_the_containers_is_read() -> None:
    """The program or boto3 reads every variable in the program's containers, and every value is valid."""
    services = compose()["services"]
    assert services["program"]["environment"] == services["scheduler"]["environment"]
    environment = services["scheduler"]["environment"]
    assert set(environment) - AWS <= {variable.name for variable in variables()}
    assert load_settings(environment).hmpps_sqs_provider == "localstack"
