"""The reconciliations, in one package for each domain. `registry` lists them.

The `reconciliation` module of a package says what is read and compared; activities has `allocations` and `attendances`
instead. Why records differ, and what fixes the differences, is in `causes`, or else in the module that compares the
records. The reconciliation of incentives chooses among its causes in `diagnosis`, based on the `evidence`, and carries
out its fixes in `fixes`.

A reconciliation that stores more than the general result has a `result` module, and one that shows more than the
general view has a `view` module. The entry of the reconciliation in `registry` names both. `results` loads the stored
results of any reconciliation.
"""
