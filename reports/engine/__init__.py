"""The engine that runs any reconciliation; `reconciliation` defines what a reconciliation supplies.

`run` has the steps of a run. A run passes through these modules from top to bottom:

- `run_start`: starts, joins or resumes a run, and keeps runs from interfering with each other
- `run_reader`: lists the `units` of a run and reads them in parallel, through `shared_reads` and `parallel_reader`
- `checkpoints`: the records of finished units, from which an interrupted run is resumed
- `result_builder`: calls the next four modules, and builds the `result` from its `result_parts`; everything that people
  see is a view of the result
- `compare`: finds the rows that differ, and in which of the `fields`
- `recheck`: reads each differing record again, and decides which differences are confirmed or in flight, for example
  because of a pending message (`pending_messages`)
- `causes`: the cause and the fix of each difference, as the reconciliation declares them
- `history`: which differences are new, persisting or resolved, compared with earlier runs
- `telemetry`: the telemetry events of a run, on which alerts are based

These modules help a reconciliation to list and read its units:

- `booking_list`, `key_walk` and `moving_lists`: lists of several pages, which may change while they are read
- `unit_reader`: reads records by their ids and mappings, and collects the records that could not be read
- `join`: brings both sides of a record into one row of the `frame`

These modules are used at several points of a run, or between runs:

- `plausibility`: whether a run is plausible: how much is unread, how small the population is, and how much differs
- `exclusions`: the records whose differences are not reported; `excluded_records` says which of them still differ
- `runs`: the recorded runs, with their results
- `interrupted_runs`: which run was interrupted, how far it had got, and the command that resumes it
"""
