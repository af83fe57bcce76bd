"""The demo: the whole program against the sandbox."""
