"""`scheduler`: drains the queues continuously, and runs the other scheduled jobs."""


def scheduler() -> None:
    """Continuously drains queues, redrives DLQs and reconciles.

    It drains a micro-batch of each queue every DRAIN_INTERVAL_SECONDS. It runs each reconciliation according to its
    schedule, such as RECONCILIATION_SCHEDULE, redrives the dead letter queues according to HOUSEKEEPING_SCHEDULE, and
    checks the contracts of the services according to CONTRACTS_SCHEDULE. These schedules are in the time zone TZ, and
    each of these jobs can be switched off. If the database, a queue or a service is unavailable, the scheduler says so
    once in the log, continues, and recovers without help. Health pages and metrics are served on HEALTH_PORT. On
    SIGTERM, the scheduler finishes the work in progress and exits 0; a second SIGTERM ends it at once.
    """
    from jobs.operations.run_scheduler import run_scheduler
    from jobs.runtime.application import open_application
    from jobs.runtime.metrics import Metrics

    with open_application(prepare_database=False, metrics=Metrics(), shows_log=True) as application:
        run_scheduler(application)
