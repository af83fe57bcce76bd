"""The fixtures for the tests of visits."""

from tests.harness.visits import visit_setup

__all__ = ["visit_setup"]
