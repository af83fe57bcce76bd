"""What the commands and the schedule do."""
