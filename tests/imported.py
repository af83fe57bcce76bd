"""Importing this imports everything that a child of the tests may need, so that none does it again."""

from tests.forked import import_all

import_all()
