"""The commands, one module for each group.

Each command imports what it needs inside its function, so that `--help` stays quick.
"""
