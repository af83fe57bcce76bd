"""The settings of the program.

- `declaration`: declares every variable with its default and its meaning; begin here
- `upstreams`: declares the upstream services and their variables
- `queues`: declares the queues and their variables
- `variables`: builds the names of variables that contain an event type, a queue or a reconciliation
- `parsing`: parses the text of a variable
- `loading`: reads the environment
- `times`: the waits, limits and poll intervals that are not settings
"""
