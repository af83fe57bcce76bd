"""The reconciliations, each in a package. `registry` lists them.

What a reconciliation reads and compares is in its `reconciliation` module; for activities it is in `allocations` and
`attendances`. Why its records differ, and what fixes them, is in its `causes`, or next to the comparison. Incentives
chooses among its causes in `diagnosis`, based on the `evidence`, and carries out its fixes in `fixes`.

A reconciliation that stores more than the general result has a `result`, and a reconciliation that shows more has a
`view`. The entry of the reconciliation names both. `results` loads the stored results of any reconciliation.
"""
