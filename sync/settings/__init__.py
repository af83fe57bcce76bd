"""The settings of the program.

- `declaration`: every variable with its default and its meaning; begin here
- `upstreams`: the upstream services, and their variables
- `queues`: the queues, and their variables
- `variables`: the names of variables that contain an event type, a queue or a reconciliation
- `parsing`: parses the text of a variable
- `loading`: reads the environment
- `times`: waits, limits and poll intervals that are not settings
"""
