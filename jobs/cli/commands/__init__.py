"""The commands, one module for each group. What a command needs is imported inside it, so that `--help` stays quick."""
