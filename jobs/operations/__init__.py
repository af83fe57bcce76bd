"""What the commands and the scheduled jobs do.

Jobs that run on a schedule:

- `schedule`: the only list of the scheduled jobs, with their schedules
- `run_scheduler`: runs the drains and the scheduled jobs until it is stopped
- `drain`: drains queues in micro-batches, as one job run
- `reconcile`: runs a reconciliation, records it as a job run, and delivers its report
- `housekeeping`: sends back dead-letter messages that may succeed, and gives up on others
- `retention`: removes what has been kept long enough; a step of housekeeping
- `contracts`: checks whether each service still offers what the program relies on

Reports and alerts:

- `deliveries`: sends the pending alerts, reports and telemetry
- `report_delivery`: follows the delivery of a report, writes the report again, and sends it again

What an operator reads:

- `status`: the state of each part of the system; `status_lines` decides what needs a person
- `dead_letters`: reads the dead letter queues, and finds out why the messages failed
- `reported_differences`: where the last runs list the differences of a prisoner

What an operator changes:

- `recorded_actions`: records each action on another system before it begins and when it ends
- `retry_dead_letters`: sends dead-letter messages back to their queues, all at once or in batches
- `purge_dead_letters`: exports dead-letter messages and removes them for good
- `creations`: lists creations, settles open ones, and reopens those that a person mapped
- `duplicates`: examines a record that NOMIS has twice, and removes the duplicate
- `found_duplicates`: records the finding about a duplicate that a reconciliation found
- `duplicate_rows`: deletes the duplicate row of an allocation or attendance
- `resync`: writes the current DPS state of one record to NOMIS
- `incentive_fixes`: publishes a received event again, or writes the DPS incentive level to NOMIS again
- `bulk_fixes`: carries out the fixes of many differences of a run in turn
- `delete_all`: removes all mapped activities or appointments; for development only
"""
