"""Fixtures for the tests of the deployment."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from tests.harness.manifests import VARIANTS, Manifest, render


@pytest.fixture(scope="session")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str | None], list[Manifest]]:
    """A function that renders an overlay, with a component if one is given.

    Each combination is rendered once for all tests of a worker, so a test must not change the result.
    """
    return functools.cache(lambda overlay, component: render(overlay, component, tmp_path_factory.mktemp("rendered")))


@pytest.fixture(params=VARIANTS, ids=[f"{overlay}-{component}" for overlay, component in VARIANTS])
def rendered(request: pytest.FixtureRequest, renders: Callable[[str, str | None], list[Manifest]]) -> list[Manifest]:
    """The rendered objects of one environment, with or without a component."""
    return renders(*request.param)
