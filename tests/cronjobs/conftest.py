"""Fixtures of the deployment's tests."""

from __future__ import annotations

import pytest

from tests.cronjobs.manifests import VARIANTS, Manifest, render


@pytest.fixture(scope="module", params=VARIANTS, ids=[f"{overlay}-{component}" for overlay, component in VARIANTS])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The objects of one environment in one form."""
    overlay, component = request.param
    return render(overlay, component, tmp_path_factory.mktemp("rendered"))
