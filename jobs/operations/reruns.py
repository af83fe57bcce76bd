"""Repeating a run of the ledger with the same parameters."""

from jobs.cli.exit_codes import UsageError
from jobs.runtime.application import Application
from jobs.runtime.job_runs import Trigger


def rerun(application: Application, run_id: str, *, as_json: bool = False) -> None:
    """Repeats the run as one of its own, which names the run it repeats. Raises `UsageError` where that cannot be."""
    from jobs.operations import drain as draining
    from jobs.operations import housekeeping
    from jobs.operations import reconcile as reconciling

    earlier = application.job_runs.find(run_id)
    if earlier.job == draining.JOB:
        parameters = draining.DrainParameters.from_dict(earlier.parameters)
        draining.run_drain(application, parameters, as_json=as_json, trigger=Trigger.RERUN, rerun_of=earlier.id)
    elif earlier.job == reconciling.JOB:
        again = reconciling.parameters_from_dict(earlier.parameters)
        reconciling.run_reconciliation(application, again, as_json=as_json, trigger=Trigger.RERUN, rerun_of=earlier.id)
    elif earlier.job == housekeeping.JOB:
        housekeeping.run_housekeeping(application, trigger=Trigger.RERUN, rerun_of=earlier.id)
    else:
        raise UsageError(f"a run of {earlier.job} cannot be repeated; start it anew")
