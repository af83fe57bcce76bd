"""What people read: the Jinja2 templates of the report, the email and the Slack messages."""
