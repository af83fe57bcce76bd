"""Applies events from DPS to NOMIS.

Each package answers one question, and its docstring says what each of its modules is for:

- `pipeline`: what happens to a message?
- `events`: what does an event say?
- `creation`: how is a record created exactly once?
- `domains`: what is special about visits, incentives, activities, appointments and adjustments?
- `repair`: what can an operator repair?
- `contracts`: does each service still offer what the program calls?
- `upstream`: how is a service called?
- `queues`: how are SQS and SNS used?
- `store`: what is kept if a process dies?
- `settings`: which variables exist, and which times can be tuned?

Several packages use these modules:

- `clock`: times and their zones
- `errors`: the program's errors, and whether a retry can help
- `alerting`: how soon a person has to act, and which command to type
- `failure_log`: a log entry when repeated work starts to fail, and another when it succeeds again
- `outage_text`: how an outage is described to people
- `tracing`: the trace and the operation id of a message or a run
"""
