"""A fake of the parts of Slack that are used: messages of Block Kit, threads, and uploads of files."""
