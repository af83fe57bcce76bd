"""The command line: what an operator types, and what is asked and printed."""
