"""What runs the program: composition root, scheduler, job runs, signals, logging."""
