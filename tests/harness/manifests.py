"""The deployment's manifests, as files and as `kubectl kustomize` renders them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2] / "cronjobs"
#: Values for a Helm chart, which are not Kubernetes objects.
EXAMPLES = ROOT / "examples"
OVERLAYS = ("dev", "preprod", "prod")
COMPONENTS = ("monitoring", "scheduler-runs-jobs", "sharded-adjustments", "sharded-reconciliation")
#: Each overlay without a component, and with each component.
VARIANTS = tuple((overlay, component) for overlay in OVERLAYS for component in (None, *COMPONENTS))

Manifest = dict[str, Any]
#: The C loader is just as safe, and faster, but it needs libyaml.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def raw_manifests() -> Iterator[tuple[Path, Manifest]]:
    """The Kubernetes objects in the manifest files, each with the path of its file."""
    for path in sorted(each for each in ROOT.rglob("*.yaml") if EXAMPLES not in each.parents):
        for manifest in yaml.load_all(path.read_text(), _LOADER):
            if manifest["kind"] not in ("Kustomization", "Component"):
                yield path, manifest


def render(overlay: str, component: str | None, workspace: Path) -> list[Manifest]:
    """Renders an overlay, with a component if one is given, in the folder `workspace`. Returns the objects.

    Skips the test on a machine without kubectl.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl, which renders the overlays, is not installed; their files are still checked one by one")
    shutil.copytree(ROOT, workspace / "cronjobs")
    folder = workspace / "cronjobs" / "overlays" / overlay
    if component is not None:
        with (folder / "kustomization.yaml").open("a") as file:
            file.write(f"components: [../../components/{component}]\n")
    rendered = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.load_all(rendered.stdout, _LOADER))


def is_known(manifest: Manifest) -> bool:
    """Whether the kind of an object is defined by Kubernetes itself, and therefore has a schema."""
    return "monitoring.coreos.com" not in manifest["apiVersion"]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The objects of a kind, by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def pod_of(manifest: Manifest) -> Manifest | None:
    """The specification of the pods that an object starts, or None if it starts none."""
    spec = manifest.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    pod: Manifest | None = spec.get("template", {}).get("spec")
    return pod


def starts_the_program(pod: Manifest) -> bool:
    """Whether the pod's container starts the program itself, unlike the container in which operators run commands."""
    return "command" not in pod["containers"][0]


def pods_of(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The specifications of the pods that the objects start, by the names of the objects."""
    found = ((manifest["metadata"]["name"], pod_of(manifest)) for manifest in manifests)
    return {name: pod for name, pod in found if pod is not None}


def environment_of(pod: Manifest, manifests: list[Manifest], secrets: Mapping[str, str]) -> dict[str, str]:
    """The environment of a pod's only container.

    `secrets` has values for variables that come from secrets, by variable name. Any other variable that comes from a
    secret has the value `secret`.
    """
    (container,) = pod["containers"]
    settings = of_kind(manifests, "ConfigMap")
    environment: dict[str, str] = {}
    for source in container["envFrom"]:
        environment |= settings[source["configMapRef"]["name"]]["data"]
    for entry in container["env"]:
        environment[entry["name"]] = entry.get("value") or secrets.get(entry["name"], "secret")
    return environment


def settings_file(path: Path) -> dict[str, str]:
    """The settings of a `settings.env` file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


#: The earliest version of Kubernetes that the manifests support.
KUBERNETES = "1.31"
