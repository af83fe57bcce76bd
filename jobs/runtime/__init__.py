"""What the program needs to run: the composition root, scheduler, schedules, job runs, signals, logs and metrics."""
