"""What the commands and the scheduled jobs do."""
