"""How a result is shown.

Each of these makes something that people get:

- `page`: the report of a run as HTML
- `index`: the overview of all reconciliations and their runs as HTML
- `email_report`: the email of a run
- `slack_report`: the Slack messages of a run
- `message_content`: what email and Slack share: the newest differences, and the files
- `csv`: the differences for a spreadsheet
- `alerts`: the Slack message of an alert
- `support_request`: the request to the NOMIS support team

All of them say the same thing, with the help of these:

- `summary`: what a run found, in sentences and figures
- `what_to_do`: the actions, grouped by who acts
- `view`: how a record is worded, parts of which a reconciliation overrides; `view_parts` are its pieces
- `counts`: what the differences have in common, with links
- `chart`: the trend
- `masking`: hides prisoner numbers and booking ids
- `text`: numbers, dates and texts of other systems
- `templates`: HTML from Jinja templates
- `slack_blocks`: Slack's Block Kit and its limits
"""
