"""How any reconciliation works, whatever it compares.

A run passes these modules from top to bottom:

- `run_registry`: starts, joins or resumes a run, and keeps runs apart.
- `run`: the path of a run, on one page.
- `run_reader`: lists the `units` of a run and reads them in parallel (`reads`, `parallel_reader`), with the help of
  `lists`, `booking_list` (`key_walk`) and `unit_reader`. Each finished unit is a checkpoint (`checkpoints`).
- `compare`: finds the rows of the `frame` that differ in one of the `fields`.
- `recheck`: reads each difference again; one whose message is pending (`pending_messages`) is in flight.
- `history`: new, persisting or resolved, against earlier runs (`runs`).
- `causes`: the cause and the fix of each difference, which the reconciliation declares.
- `result_builder`: makes the `result`, which everything people see is a view of. `plausibility` decides whether a run
  is believed, `exclusions` which known differences are not reported.
- `events`: the telemetry of a run, from which alerts follow.
"""
