"""The commands that the containers start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from jobs.cli.app import app
from tests.harness.manifests import ROOT, Manifest, pod_of, pods_of, raw_manifests, starts_the_program

RAW = [
    (path, pod)
    for path, manifest in raw_manifests()
    if (pod := pod_of(manifest)) is not None and starts_the_program(pod)
]


def read_arguments(arguments: list[str]) -> None:
    """Parses arguments as the command line does, without running anything. Raises an error if they are not valid."""
    left = list(arguments)
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[left.pop(0)]
    command.make_context("prisoner-to-nomis", left).close()


@pytest.mark.parametrize(("path", "pod"), RAW, ids=[str(path.relative_to(ROOT)) for path, _ in RAW])
def test_every_command_in_a_file_is_one_the_program_has(path: Path, pod: Manifest) -> None:
    """The command line accepts the arguments in every manifest file that starts the program."""
    read_arguments(pod["containers"][0]["args"])


def test_every_rendered_command_is_one_the_program_has(rendered: list[Manifest]) -> None:
    """The command line accepts the arguments in the rendered manifests, with and without each component."""
    for pod in filter(starts_the_program, pods_of(rendered).values()):
        read_arguments(pod["containers"][0]["args"])
