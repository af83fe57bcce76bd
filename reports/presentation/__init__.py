"""How a result is shown.

Each of these makes something that people get:

- `page`: the report of a run. `index`: the overview of all reconciliations. Both are HTML from `templates`.
- `email_report`: the email of a run. `slack_report`: its Slack messages. They share `message_content`.
- `csv`: the differences for a spreadsheet. `alerts`: the Slack message of an alert. `support_request`: the request to
  the NOMIS support team.

All of them say the same: `summary` has the sentences and figures, `what_to_do` the actions, `counts` what differences
have in common, and `view` how a record is worded, parts of which a reconciliation overrides.
"""
