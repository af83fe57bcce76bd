"""The settings of the program.

- `declaration`: declares the settings, with their defaults and meanings; start here
- `upstreams`: declares the upstream services and their variables
- `queues`: declares the queues and their variables
- `variables`: builds the names of variables that contain the name of an event type, a queue or a reconciliation
- `parsing`: parses the values of variables
- `loading`: reads the settings from the environment
- `times`: declares the waits, limits and poll intervals that are not settings
"""
