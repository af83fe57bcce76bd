"""When and whether: the command line, the scheduler, the ledger of job runs."""
