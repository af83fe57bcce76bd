"""Events, and the context in which a handler handles one.

- `envelope`: parses a message as an event, a mapping retry, or a message of an unknown type
- `context`: the services and telemetry for a handler, and the possible outcomes of a message
"""
