"""The presentation of results.

Each of these modules makes something that people receive, or part of it:

- `page`: the report of a run as HTML
- `index`: the overview of all reconciliations and their runs as HTML
- `email_report`: the email about a run
- `slack_report`: the Slack messages about a run
- `message_content`: the newest differences and the files, which the email and the Slack messages share
- `csv`: the differences for a spreadsheet
- `alerts`: the Slack message for an alert
- `support_request`: the request to the NOMIS support team

They share the following modules, so that all of them say the same thing:

- `summary`: what a run found, in sentences and figures
- `what_to_do`: the actions, grouped by who acts
- `view`: the wording of a result, which a reconciliation may override in part; `view_parts` has the pieces of a view
- `counts`: counts of differences by kind, age, cause and prison, with links
- `chart`: the trend
- `masking`: the masking of prisoner numbers and booking ids
- `text`: numbers, dates, and texts from other systems
- `templates`: HTML from Jinja templates
- `slack_blocks`: Slack's Block Kit and its limits
"""
