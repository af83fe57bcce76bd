"""The fixture `visit_setup`, for the tests of visits in this folder."""

from tests.harness.visits import visit_setup

__all__ = ["visit_setup"]
