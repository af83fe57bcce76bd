"""What decides when and whether work is done: the command line, the scheduler and the ledger of job runs."""
