"""The program around `sync` and `reports`: command line, scheduler, ledger of job runs, health pages and demo."""
