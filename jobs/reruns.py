"""Repeating a run of the ledger with the same parameters."""

from jobs.composition import Program
from jobs.endings import UsageError
from jobs.ledger import Trigger


def rerun(program: Program, run_id: str, *, as_json: bool = False) -> None:
    """Repeats the run as one of its own, which names the run it repeats. Raises `UsageError` where that cannot be."""
    from jobs import draining, housekeeping, reconciling

    earlier = program.ledger.find(run_id)
    if earlier.job == draining.JOB:
        parameters = draining.DrainParameters.from_dict(earlier.parameters)
        draining.run_drain(program, parameters, as_json=as_json, trigger=Trigger.RERUN, rerun_of=earlier.id)
    elif earlier.job == reconciling.JOB:
        again = reconciling.parameters_from_dict(earlier.parameters)
        reconciling.run_reconciliation(program, again, as_json=as_json, trigger=Trigger.RERUN, rerun_of=earlier.id)
    elif earlier.job == housekeeping.JOB:
        housekeeping.run_housekeeping(program, trigger=Trigger.RERUN, rerun_of=earlier.id)
    else:
        raise UsageError(f"a run of {earlier.job} cannot be repeated; start it anew")
