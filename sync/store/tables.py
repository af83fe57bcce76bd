"""The tables of the database: what has to survive the death of a process.

Times are stored in UTC. `Json` columns hold plain JSON. The migrations beside this module bring a database here.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware date-time, kept in UTC, the same on PostgreSQL and on SQLite (which knows no time zones)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuses naive date-times, so that no zone is ever guessed."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a date-time without time zone cannot be stored")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Gives back an aware date-time in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: A row number that grows on both databases (SQLite grows only its own INTEGER primary keys).
RowId = BigInteger().with_variant(Integer, "sqlite")

#: One holder at a time for an entity; a lease that has expired may be taken over.
leases = Table(
    "leases",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)

#: The creation protocol: one row a DPS record that is, or is being, created in NOMIS.
#: state: intended (a create may be under way, or its answer was lost) → created (NOMIS ids known) → mapped; or refused
#: (known not to have been applied), ambiguous (a person has to look), duplicate (the mapping was refused), abandoned
#: (settled by hand as not created), deleted (with its mapping, on purpose). `attempts` counts the creates that were
#: intended: a writer names the attempt it speaks of, so one that was overtaken changes nothing.
creations = Table(
    "creations",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("domain", String(40), nullable=False),
    Column("dps_id", String(80), nullable=False),
    Column("state", String(20), nullable=False),
    Column("request", JSON, nullable=False),
    Column("nomis_ids", JSON(none_as_null=True)),
    Column("mapping", JSON(none_as_null=True)),
    Column("properties", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("note", Text),
    Column("intended_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("domain", "dps_id"),
    Index(None, "state"),
)

#: The custom events that were tracked, oldest first by id.
telemetry_events = Table(
    "telemetry_events",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("name", String(120), nullable=False),
    Column("time", UtcDateTime, nullable=False),
    Column("properties", JSON, nullable=False),
    Index(None, "name"),
    Index(None, "time"),
)

#: One row for each failed attempt at a message.
failures = Table(
    "failures",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("time", UtcDateTime, nullable=False),
    Column("queue", String(40), nullable=False),
    Column("message_id", String(100), nullable=False),
    Column("sns_message_id", String(100)),
    Column("event_type", String(120)),
    Column("entity", String(200)),
    Column("step", String(80)),
    Column("service", String(40)),
    Column("method", String(10)),
    Column("path", String(500)),
    Column("status", Integer),
    Column("reason", Text, nullable=False),
    Column("recoverable", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Index(None, "queue", "message_id"),
    Index(None, "sns_message_id"),
    Index(None, "time"),
)

#: What a person has to look at: duplicates, ambiguous creations, non-unique rows. `key` makes each finding once.
findings = Table(
    "findings",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("key", String(300), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("domain", String(40), nullable=False),
    Column("severity", String(20), nullable=False),
    Column("event_name", String(120), nullable=False),
    Column("properties", JSON, nullable=False),
    Column("status", String(20), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolved_by", String(100)),
    Column("resolution", Text),
    Index(None, "status"),
)

#: Deliveries that leave exactly once: written with their cause, sent afterwards. `key` makes each delivery once.
outbox = Table(
    "outbox",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("key", String(300), nullable=False, unique=True),
    Column("channel", String(20), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("last_error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Index(None, "state", "next_attempt_at"),
)

#: Whether an upstream is taken to be down, shared by all processes.
breakers = Table(
    "breakers",
    metadata,
    Column("service", String(40), primary_key=True),
    Column("state", String(20), nullable=False),
    Column("opened_at", UtcDateTime),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("reason", Text),
)

#: How often a message came back to its DLQ, by the id that survives a re-drive.
dead_letter_returns = Table(
    "dead_letter_returns",
    metadata,
    Column("queue", String(40), primary_key=True),
    Column("message_key", String(120), primary_key=True),
    Column("returns", Integer, nullable=False),
    Column("last_retried_at", UtcDateTime, nullable=False),
)

#: What people did: who, when, what, and how it ended.
actions = Table(
    "actions",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("time", UtcDateTime, nullable=False),
    Column("who", String(100), nullable=False),
    Column("action", String(80), nullable=False),
    Column("target", String(200), nullable=False),
    Column("details", JSON, nullable=False),
    Column("outcome", Text, nullable=False),
)

#: Every run of any job. status: running, success, incomplete, failed, interrupted.
job_runs = Table(
    "job_runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job", String(60), nullable=False),
    Column("trigger", String(20), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("status", String(20), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("duration_seconds", Float),
    Column("error", Text),
    Column("host", String(100), nullable=False),
    Column("rerun_of", String(40)),
    Index(None, "job", "started_at"),
)

#: A reconciliation as a whole; shards share its id. status: running, complete, incomplete, failed. scope: everyone,
#: prisons, prisoners.
reconciliation_runs = Table(
    "reconciliation_runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("status", String(20), nullable=False),
    Column("scope", String(20), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("total_elements", Integer),
    Column("population", LargeBinary),
    Column("shards", Integer, nullable=False),
    Column("finished_shards", JSON, nullable=False),
    Column("result", LargeBinary),
    Index(None, "scope", "started_at"),
)

#: A finished page of a run: the checkpoint. `rows` is compressed JSON, so 87,000 prisoners are a few hundred kB.
reconciliation_pages = Table(
    "reconciliation_pages",
    metadata,
    Column("run_id", String(40), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("rows", LargeBinary, nullable=False),
)

#: The mismatches of finished runs: the history that tells new from persisting from resolved.
reconciliation_mismatches = Table(
    "reconciliation_mismatches",
    metadata,
    Column("run_id", String(40), primary_key=True),
    Column("booking_id", BigInteger, primary_key=True),
    Column("offender_no", String(10), nullable=False),
    Column("prison_id", String(6)),
    Column("nomis_level", String(12)),
    Column("dps_level", String(12)),
    Column("since", UtcDateTime, nullable=False),
    Column("standing", String(20), nullable=False),
    Column("cause", String(40)),
    Index(None, "offender_no"),
)
