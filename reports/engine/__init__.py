"""The engine that runs any reconciliation; `reconciliation` defines what a reconciliation supplies.

A run passes through these modules from top to bottom:

- `run_start`: starts, joins or resumes a run, and keeps runs from interfering with each other
- `interrupted_runs`: which run was interrupted, how far it had got, and the command that resumes it
- `run`: the steps of a run, from start to result
- `run_reader`: lists the `units` of a run and reads them in parallel, through `shared_reads` and `parallel_reader`
- `booking_list`, `key_walk`, `moving_lists` and `unit_reader` help a reconciliation to list and read its units
- `checkpoints`: the records of finished units, from which an interrupted run is resumed
- `join`: brings both sides of a record into one row of the `frame`
- `compare`: finds the rows that differ, and in which of the `fields`
- `recheck`: reads each differing record again, and decides which differences are confirmed or in flight, for example
  because of a pending message (`pending_messages`)
- `history`: which differences are new, persisting or resolved, compared with earlier runs (`runs`)
- `causes`: the cause and the fix of each difference, as the reconciliation declares them
- `plausibility`: decides whether the result of a run is plausible
- `exclusions`: the records whose differences are not reported; `excluded_records` says which of them still differ
- `result_builder`: builds the `result` from its `result_parts`; everything that people see is a view of the result
- `telemetry`: the telemetry events of a run, on which alerts are based
"""
