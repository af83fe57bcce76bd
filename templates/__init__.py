"""The Jinja2 templates of the report, the index and the email, with their style sheet and scripts."""
