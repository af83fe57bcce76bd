"""What runs the program: the composition root, scheduler, schedules, job runs, signals, logs and metrics."""
