"""The settings of the program.

- `declaration`: declares the settings, with their defaults and meanings; begin here
- `upstreams`: declares the upstream services and their variables
- `queues`: declares the queues and their variables
- `variables`: builds the names of variables that contain the name of an event type, a queue or a reconciliation
- `parsing`: parses the text of a variable
- `loading`: reads the environment
- `times`: the waits, limits and poll intervals that are not settings
"""
