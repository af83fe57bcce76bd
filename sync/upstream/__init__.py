"""The upstream services over HTTP."""
