"""A fake of the parts of Slack that the program uses: Block Kit messages, threads and file uploads."""
