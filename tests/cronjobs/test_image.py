"""The image: its contents, its version, and the account that it runs under."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from jobs.cli.confirmation import SERVICE_ACCOUNT
from sync.queues.aws import Aws
from tests.harness.manifests import ROOT

PROJECT = ROOT.parent
DOCKERFILE = (PROJECT / "Dockerfile").read_text()


def test_the_account_of_the_image_is_not_a_person() -> None:
    """The image's account is the one that commands do not accept as the name of an operator."""
    (account,) = re.findall(r"useradd .* (\S+) \\\n", DOCKERFILE)
    assert account == SERVICE_ACCOUNT


def test_the_program_shows_the_version_that_was_built(tmp_path: Path) -> None:
    """Before the build makes the wheel, it writes the build argument VERSION into `pyproject.toml`.

    By default the argument is the version of the project.
    """
    (default,) = re.findall(r"^ARG VERSION=(\S+)$", DOCKERFILE, re.MULTILINE)
    project = (PROJECT / "pyproject.toml").read_text()
    assert default == tomllib.loads(project)["project"]["version"]
    (write,) = re.findall(r"^RUN (sed .*pyproject.toml) ", DOCKERFILE, re.MULTILINE)
    (tmp_path / "pyproject.toml").write_text(project)
    subprocess.run(write, shell=True, check=True, cwd=tmp_path, env={"VERSION": "7.8.9", "PATH": "/usr/bin:/bin"})  # noqa: S602 - our own command
    assert tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["version"] == "7.8.9"


def test_files_that_the_program_never_reads_are_pruned(tmp_path: Path) -> None:
    """Pruning removes tests, bytecode, and the sources of compiled modules.

    It also removes the descriptions of AWS services that the program does not call. It removes nothing else.
    """
    kept = ["pandas/core.py", "pandas/lib.so", "botocore/data/endpoints.json", "moto/tests.py"]
    called = get_args(get_type_hints(Aws.client)["service"])
    assert "cloudwatch" in called
    # STS issues the credentials for a web identity.
    kept += [f"botocore/data/{service}/service-2.json.gz" for service in (*called, "sts")]
    gone = ["pandas/tests/test_x.py", "pandas/tests/deep/tests/x.py", "aiohttp/_parser.pyx", "aiohttp/_parser.c"]
    gone += ["botocore/data/ec2/service-2.json.gz", "boto3/data/ec2/resources.json", "pandas/__pycache__/core.pyc"]
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in (*kept, *gone):
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).touch()
    subprocess.run(["sh", PROJECT / "prune-image.sh", tmp_path], check=True)
    left = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    assert left == set(kept)


@pytest.mark.parametrize("folder", ["sync", "reports", "templates", "sandbox", "jobs"])
def test_every_source_of_the_wheel_goes_into_the_build(folder: str) -> None:
    """The build copies each folder that the wheel is made from, and `.dockerignore` does not exclude it."""
    assert f"COPY {folder}/ {folder}/" in DOCKERFILE
    assert f"!{folder}" in (PROJECT / ".dockerignore").read_text().splitlines()


def test_the_account_of_the_image_cannot_change_the_program() -> None:
    """The files of the program belong to root, not to the account that the container runs under."""
    assert "COPY --from=build /app /app" in DOCKERFILE
    assert "--chown" not in DOCKERFILE
