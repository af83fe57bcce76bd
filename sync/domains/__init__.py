"""What is special about each domain. Each domain is one package, and all packages have the same modules.

`rules` says what each event does, `dps` and `nomis` hold the clients of the two services, and `repair` says what an
operator can do. All packages share these modules:

- `registry`: lists the domains, and derives from them queues, roles and switches; begin here
- `declaration`: what a domain declares: `Domain`, `Update`
- `repair`: what it declares for operators: `Repair`, `Advice`, `Resync`
- `duplicate_rows`: two rows in NOMIS where one is allowed
- `nomis_sql`: SQL for the NOMIS database, for people to paste
- `event_table`: the table of all events in `doc/events.md`
"""
