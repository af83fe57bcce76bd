"""A result as people read it: page, CSV and messages."""
