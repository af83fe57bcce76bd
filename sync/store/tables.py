"""The tables of the database.

Times are stored in UTC. JSON columns contain plain JSON. `sync/store/migrations` upgrades a database to this schema.
"""

from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    text,
)

from sync.store.column_types import DisplayText, IdentifierText, SharedDateTime, UtcDateTime

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

# A dialect takes a tenth of a second to import, and a command needs only one.
Insert: TypeAlias = "sqlite.Insert | postgresql.Insert"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: A row number that increases automatically on both databases. SQLite does this only for INTEGER primary keys.
RowId = BigInteger().with_variant(Integer, "sqlite")

_DUE = text("export = 'due'")

#: The leases: one holder at a time for an entity. A lease that has expired may be taken over.
leases = Table(
    "leases",
    metadata,
    Column("key", IdentifierText(200), primary_key=True),
    Column("owner", DisplayText(200), nullable=False),
    Column("expires_at", SharedDateTime, nullable=False),
)

#: The time at which the machine started, by its boot id. This table is used only on SQLite.
clocks = Table(
    "clocks",
    metadata,
    Column("boot", IdentifierText(40), primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
)

#: The records of the creation protocol: one row for each DPS record that has been, or is being, created in NOMIS.
#: state: intended (a create may be under way, or its response was lost) → created (NOMIS ids known) → mapped. Other
#: states are refused (the create was certainly not applied), ambiguous (a person has to decide), duplicate (the mapping
#: was refused), abandoned (a person decided that NOMIS does not have the record) and deleted (on purpose, with its
#: mapping). attempts: the number of intended creates. A writer states its attempt, so that a superseded writer changes
#: nothing.
creations = Table(
    "creations",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("domain", DisplayText(40), nullable=False),
    Column("dps_id", IdentifierText(80), nullable=False),
    Column("state", DisplayText(20), nullable=False),
    Column("request", JSON, nullable=False),
    Column("nomis_ids", JSON(none_as_null=True)),
    Column("mapping", JSON(none_as_null=True)),
    Column("properties", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("note", DisplayText()),
    Column("intended_at", SharedDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", SharedDateTime, nullable=False),
    UniqueConstraint("domain", "dps_id"),
    Index(None, "state"),
)

#: The custom events, oldest first by id. operation_id: the trace of the message or run (32 hex digits). export: due
#: (Application Insights has not accepted the event yet), sent or refused; NULL if the event is not to be sent.
telemetry_events = Table(
    "telemetry_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("name", DisplayText(120), nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("properties", JSON, nullable=False),
    Column("operation_id", IdentifierText(32)),
    Column("export", DisplayText(10)),
    Index(None, "name"),
    Index(None, "time"),
    Index("ix_telemetry_events_due", "id", sqlite_where=_DUE, postgresql_where=_DUE),
)

#: One row for each failed attempt to handle a message.
failures = Table(
    "failures",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("time", UtcDateTime, nullable=False),
    Column("queue", DisplayText(40), nullable=False),
    Column("message_id", IdentifierText(100), nullable=False),
    Column("sns_message_id", IdentifierText(100)),
    Column("event_type", DisplayText(120)),
    Column("entity", IdentifierText(200)),
    Column("step", DisplayText(80)),
    Column("service", DisplayText(40)),
    Column("method", DisplayText(10)),
    Column("path", DisplayText(500)),
    Column("status", Integer),
    Column("reason", DisplayText(), nullable=False),
    Column("recoverable", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Index(None, "queue", "message_id"),
    Index(None, "sns_message_id"),
    Index(None, "time"),
)

#: Problems that a person has to resolve: duplicates, ambiguous creations, non-unique rows, and messages that were given
#: up on. Each `key` is recorded only once.
findings = Table(
    "findings",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("key", IdentifierText(300), nullable=False, unique=True),
    Column("kind", DisplayText(40), nullable=False),
    Column("domain", DisplayText(40), nullable=False),
    Column("severity", DisplayText(20), nullable=False),
    Column("event_name", DisplayText(120), nullable=False),
    Column("properties", JSON, nullable=False),
    Column("status", DisplayText(20), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolved_by", DisplayText(100)),
    Column("resolution", DisplayText()),
    Index(None, "status"),
)

#: Deliveries, which are written with their cause and sent afterwards, exactly once. Each `key` is enqueued only once.
outbox = Table(
    "outbox",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("key", IdentifierText(300), nullable=False, unique=True),
    Column("channel", DisplayText(20), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("state", DisplayText(20), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", SharedDateTime, nullable=False),
    Column("last_error", DisplayText()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Index(None, "state", "next_attempt_at"),
)

#: The states of the breakers, which all processes share: which upstream services count as down.
breakers = Table(
    "breakers",
    metadata,
    Column("service", DisplayText(40), primary_key=True),
    Column("state", DisplayText(20), nullable=False),
    Column("opened_at", UtcDateTime),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("reason", DisplayText()),
)

#: How many times a message was redriven from its DLQ, by an id that stays the same after a redrive.
dead_letter_returns = Table(
    "dead_letter_returns",
    metadata,
    Column("queue", DisplayText(40), primary_key=True),
    Column("message_key", IdentifierText(120), primary_key=True),
    Column("returns", Integer, nullable=False),
    Column("last_retried_at", UtcDateTime, nullable=False),
)

#: The messages that wait on a queue without using up their receives, by an id that their copies keep. waits_for: the
#: service that fails their calls, the creation of their record, or the lease of their record; or their turn, after they
#: were sent back from the dead letter queue.
waiting_messages = Table(
    "waiting_messages",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("queue", DisplayText(40), nullable=False),
    Column("message_key", IdentifierText(120), nullable=False),
    Column("waits_for", DisplayText(20), nullable=False),
    Column("service", DisplayText(40)),
    Column("reason", DisplayText()),
    Column("since", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    UniqueConstraint("queue", "message_key"),
)

#: The actions of operators: who did what, when, and with what outcome. state: started, done, failed, refused, unknown.
#: lease: the key of the lease that the process holds while the action is under way.
actions = Table(
    "actions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("time", UtcDateTime, nullable=False),
    Column("who", DisplayText(100), nullable=False),
    Column("action", DisplayText(80), nullable=False),
    Column("target", IdentifierText(200), nullable=False),
    Column("details", JSON, nullable=False),
    Column("outcome", DisplayText(), nullable=False),
    Column("state", DisplayText(20), nullable=False, server_default="done"),
    Column("finished_at", UtcDateTime),
    Column("lease", IdentifierText(60)),
    Index(None, "action", "target"),
)

#: The runs of all jobs. status: running, success, incomplete, failed, interrupted.
job_runs = Table(
    "job_runs",
    metadata,
    Column("id", IdentifierText(40), primary_key=True),
    Column("job", DisplayText(60), nullable=False),
    Column("trigger", DisplayText(20), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("status", DisplayText(20), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("duration_seconds", Float),
    Column("error", DisplayText()),
    Column("host", DisplayText(100), nullable=False),
    Column("rerun_of", IdentifierText(40)),
    Index(None, "job", "started_at"),
)

#: The result of the last contract check of each upstream service. findings: the differences, as JSON.
contract_checks = Table(
    "contract_checks",
    metadata,
    Column("service", DisplayText(40), primary_key=True),
    Column("version", DisplayText(200), nullable=False),
    Column("findings", JSON, nullable=False),
    Column("checked_at", UtcDateTime, nullable=False),
)

#: The runs of reconciliations. All shards of a run share its id. status: running, complete, incomplete, failed. scope:
#: everyone, days (selected days), prisons, prisoners.
reconciliation_runs = Table(
    "reconciliation_runs",
    metadata,
    Column("id", IdentifierText(40), primary_key=True),
    Column("reconciliation", DisplayText(60), nullable=False, server_default="incentives"),
    Column("status", DisplayText(20), nullable=False),
    Column("scope", DisplayText(20), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("total_elements", Integer),
    Column("population", LargeBinary),
    Column("shards", Integer, nullable=False),
    Column("finished_shards", JSON, nullable=False),
    Column("result", LargeBinary),
    Index(None, "scope", "started_at"),
    Index(None, "reconciliation", "started_at"),
)

#: The checkpoints: the finished pages of a run. `rows` is compressed JSON, so 87,000 prisoners take a few hundred kB.
reconciliation_pages = Table(
    "reconciliation_pages",
    metadata,
    Column("run_id", IdentifierText(40), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("rows", LargeBinary, nullable=False),
)

#: The mismatches of finished runs, by which later runs distinguish new, persisting and resolved mismatches. key: the
#: identifying columns as JSON. differences: both values of each field that differs. nomis_level, dps_level: used only
#: for incentives.
reconciliation_mismatches = Table(
    "reconciliation_mismatches",
    metadata,
    Column("run_id", IdentifierText(40), primary_key=True),
    Column("key", IdentifierText(200), primary_key=True),
    Column("reconciliation", DisplayText(60), nullable=False, server_default="incentives"),
    Column("booking_id", BigInteger),
    Column("offender_no", DisplayText(10)),
    Column("prison_id", DisplayText(6)),
    Column("kind", DisplayText(40)),
    Column("differences", JSON(none_as_null=True)),
    Column("nomis_level", DisplayText(12)),
    Column("dps_level", DisplayText(12)),
    Column("since", UtcDateTime, nullable=False),
    Column("standing", DisplayText(20), nullable=False),
    Column("cause", DisplayText(40)),
    Index(None, "offender_no"),
)


def insert_into(dialect: str, table: Table) -> Insert:
    """An INSERT into `table` with the methods `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table)
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table)
