"""The database, which keeps everything that is still needed after a process dies.

- `database`: opens the database and runs transactions; `engine` opens the connections
- `tables`: all tables; `column_types`: the types of their columns; `migrations`: the upgrades to the current schema
- `leases`: one holder at a time for an entity; they expire by the `shared_clock`, and `process_names` names
  their holders
- `group_commit`: one transaction for the requests of several threads
- `creations`: the state of each creation in NOMIS
- `waiting_messages`: which messages wait on a queue, for what, and until when
- `failed_attempts`: failed attempts to handle messages, and redrives
- `findings`: problems that a person has to resolve
- `outbox`: deliveries to people
- `actions`: the actions of operators
- `telemetry`: custom events
"""
