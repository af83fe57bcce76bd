"""`scheduler`: the long-running process."""


def scheduler() -> None:
    """Goes on for ever: drains, reconciles weekly, keeps house.

    A micro-batch of every queue each DRAIN_INTERVAL_SECONDS; the reconciliation by RECONCILIATION_SCHEDULE and the
    housekeeping by HOUSEKEEPING_SCHEDULE, in TZ. When the database, a queue or a service is away it says so once,
    goes on and heals. Health and metrics are on HEALTH_PORT. SIGTERM finishes the work in hand and exits 0; a second
    one ends at once.
    """
    from jobs.health.metrics import Metrics
    from jobs.runtime.application import open_application
    from jobs.runtime.run_scheduler import serve

    with open_application(prepare_database=False, metrics=Metrics()) as application:
        serve(application)
