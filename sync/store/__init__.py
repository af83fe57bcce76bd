"""The database: what has to survive the death of a process.

- `database`: opens the database and runs transactions; `engine` opens the connections
- `tables`: all tables; `types` has the types of their columns, `migrations` brings a database to this schema
- `leases`: one holder at a time for an entity; `shared_clock` is the clock that they are measured by
- `creations`: what is, or is being, created in NOMIS
- `failed_attempts`: failed attempts to handle messages
- `findings`: what a person has to decide
- `outbox`: deliveries to people
- `actions`: what operators did
- `telemetry`: custom events
"""
