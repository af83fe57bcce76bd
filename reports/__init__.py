"""Reconciliations: NOMIS is compared with a DPS service, and people get a report of the differences.

- `engine/`: how any reconciliation works. `run.py` has the steps of a run, and `reconciliation.py` declares what a
  reconciliation supplies.
- `reconciliations/`: what each reconciliation compares, and the causes and fixes of the differences that it finds.
- `presentation/`: how a result is shown. `page.py` makes the report, `index.py` the overview, `email_report.py` the
  email and `slack_report.py` the Slack messages.
- `delivery/`: how reports and alerts reach people; each delivery is made exactly once.
"""
