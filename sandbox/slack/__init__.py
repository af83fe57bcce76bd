"""A fake of the parts of Slack that are used: Block Kit messages, threads and file uploads."""
