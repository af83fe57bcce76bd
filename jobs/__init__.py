"""What decides when and whether work is done: the command line, the scheduler, the ledger of job runs."""
