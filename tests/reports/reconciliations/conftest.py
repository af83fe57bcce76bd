"""The fixtures for the tests of visits."""

from tests.harness.visits import world

__all__ = ["world"]
