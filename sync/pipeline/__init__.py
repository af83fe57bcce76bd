"""The path of a message: receive, parse, coalesce, handle and acknowledge.

- `drain`: the loop over one queue; begin here
- `receive`: receives a batch, and pauses while a service is unavailable
- `coalesce`: decides which messages form a group, and which updates become one task
- `batch`: handles the groups of a batch in parallel
- `group_runner`: handles the tasks of one group, and decides what a failure means for the rest of the group
- `handle`: handles one task according to the rules of its domain
- `task_end`: how a task ended, and why and until when its messages wait on the queue
- `acknowledge`: deletes messages, returns them to the queue, and records failures
- `outages`: decides what happens while a service or the database is unavailable
- `early_events`: decides what happens to an event that comes before its change is committed or its record exists
- `queue_context`: the services, stores and controls that all these modules share
"""
