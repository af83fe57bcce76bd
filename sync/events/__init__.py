"""An event, and what its handler works with.

- `envelope`: what a message says: an event, a mapping retry, or something unknown
- `context`: what a handler is given, and the outcomes of a message
"""
