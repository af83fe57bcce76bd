"""The path of a message: receive, parse, coalesce, handle, acknowledge.

- `drain`: the loop over one queue; begin here
- `receive`: receives a batch, and pauses while a service is unavailable
- `coalesce`: which messages form a group, and which updates become one task
- `batch`: handles the groups of a batch in parallel
- `groups`: handles the tasks of one group, and decides what a failure means for it
- `handle`: handles one task by the rules of its domain
- `acknowledge`: deletes messages, returns them to the queue, and records failures
- `outages`: what happens while a service or the database is unavailable
- `too_early`: what happens to an event that comes before its change is committed, or before its creation
- `queue_context`: what all of these share
"""
