"""The domains: visits, incentives, activities, appointments and adjustments, each in its own package.

Every package has these modules: `rules` defines what each event does, `dps` and `nomis` contain the calls to the
publisher of the events and to NOMIS, and `repair` defines what an operator can do. The packages share these modules:

- `registry`: lists the domains, and derives queues, roles and switches from them; begin here
- `declaration`: the classes by which a domain declares its events (`Domain` and `Update`)
- `repair_declaration`: the classes by which a domain declares what operators can do (`Repair`, `Advice` and `Resync`)
- `duplicate_rows`: recognises two rows in NOMIS where only one is allowed
- `nomis_sql`: makes SQL that people can paste and run in the NOMIS database
- `event_table`: makes the table of all events, which is in `doc/events.md`
"""
