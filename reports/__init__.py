"""Reconciliations: NOMIS is compared with a DPS service, and people get a report of the differences.

- `engine/`: how any reconciliation works. `run.py` is the course of a run, `reconciliation.py` is what a reconciliation
  supplies.
- `reconciliations/`: what each reconciliation compares, and the causes of its differences with their fixes.
- `presentation/`: how a result is shown. `page.py` makes the report, `index.py` the overview, `email_report.py` the
  email and `slack_report.py` the Slack messages.
- `delivery/`: how reports reach people; each delivery is made exactly once.
"""
