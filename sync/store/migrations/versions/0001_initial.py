"""Creates the first schema: creations, leases, telemetry, findings, outbox, ledger of runs, and reconciliations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _time() -> sa.DateTime:
    return sa.DateTime(timezone=True)


def _row_id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "actions",
        sa.Column("id", _row_id(), autoincrement=True, nullable=False),
        sa.Column("time", _time(), nullable=False),
        sa.Column("who", sa.String(length=100), nullable=False),
        sa.Column("action", sa.String(length=80), nullable=False),
        sa.Column("target", sa.String(length=200), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
    )
    op.create_table(
        "breakers",
        sa.Column("service", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("opened_at", _time(), nullable=True),
        sa.Column("changed_at", _time(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("service", name="pk_breakers"),
    )
    op.create_table(
        "creations",
        sa.Column("id", _row_id(), autoincrement=True, nullable=False),
        sa.Column("domain", sa.String(length=40), nullable=False),
        sa.Column("dps_id", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("nomis_ids", sa.JSON(), nullable=True),
        sa.Column("mapping", sa.JSON(), nullable=True),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("intended_at", _time(), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("updated_at", _time(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_creations"),
        sa.UniqueConstraint("domain", "dps_id", name="uq_creations_domain_dps_id"),
    )
    op.create_index("ix_creations_state", "creations", ["state"], unique=False)
    op.create_table(
        "dead_letter_returns",
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("message_key", sa.String(length=120), nullable=False),
        sa.Column("returns", sa.Integer(), nullable=False),
        sa.Column("last_retried_at", _time(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "message_key", name="pk_dead_letter_returns"),
    )
    op.create_table(
        "failures",
        sa.Column("id", _row_id(), autoincrement=True, nullable=False),
        sa.Column("time", _time(), nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("message_id", sa.String(length=100), nullable=False),
        sa.Column("sns_message_id", sa.String(length=100), nullable=True),
        sa.Column("event_type", sa.String(length=120), nullable=True),
        sa.Column("entity", sa.String(length=200), nullable=True),
        sa.Column("step", sa.String(length=80), nullable=True),
        sa.Column("service", sa.String(length=40), nullable=True),
        sa.Column("method", sa.String(length=10), nullable=True),
        sa.Column("path", sa.String(length=500), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("recoverable", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failures"),
    )
    op.create_index("ix_failures_queue_message_id", "failures", ["queue", "message_id"], unique=False)
    op.create_index("ix_failures_sns_message_id", "failures", ["sns_message_id"], unique=False)
    op.create_index("ix_failures_time", "failures", ["time"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", _row_id(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("domain", sa.String(length=40), nullable=False),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("event_name", sa.String(length=120), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("resolved_at", _time(), nullable=True),
        sa.Column("resolved_by", sa.String(length=100), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_findings"),
        sa.UniqueConstraint("key", name="uq_findings_key"),
    )
    op.create_index("ix_findings_status", "findings", ["status"], unique=False)
    op.create_table(
        "job_runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job", sa.String(length=60), nullable=False),
        sa.Column("trigger", sa.String(length=20), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("started_at", _time(), nullable=False),
        sa.Column("finished_at", _time(), nullable=True),
        sa.Column("duration_seconds", sa.Float(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("host", sa.String(length=100), nullable=False),
        sa.Column("rerun_of", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_job_runs"),
    )
    op.create_index("ix_job_runs_job_started_at", "job_runs", ["job", "started_at"], unique=False)
    op.create_table(
        "leases",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("expires_at", _time(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_leases"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", _row_id(), autoincrement=True, nullable=False),
        sa.Column("key", sa.String(length=300), nullable=False),
        sa.Column("channel", sa.String(length=20), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", _time(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", _time(), nullable=False),
        sa.Column("sent_at", _time(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("key", name="uq_outbox_key"),
    )
    op.create_index("ix_outbox_state_next_attempt_at", "outbox", ["state", "next_attempt_at"], unique=False)
    op.create_table(
        "reconciliation_mismatches",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("booking_id", sa.BigInteger(), nullable=False),
        sa.Column("offender_no", sa.String(length=10), nullable=False),
        sa.Column("prison_id", sa.String(length=6), nullable=True),
        sa.Column("nomis_level", sa.String(length=12), nullable=True),
        sa.Column("dps_level", sa.String(length=12), nullable=True),
        sa.Column("since", _time(), nullable=False),
        sa.Column("standing", sa.String(length=20), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "booking_id", name="pk_reconciliation_mismatches"),
    )
    op.create_index(
        "ix_reconciliation_mismatches_offender_no", "reconciliation_mismatches", ["offender_no"], unique=False
    )
    op.create_table(
        "reconciliation_pages",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=False),
        sa.Column("finished_at", _time(), nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "shard", "page", name="pk_reconciliation_pages"),
    )
    op.create_table(
        "reconciliation_runs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("started_at", _time(), nullable=False),
        sa.Column("finished_at", _time(), nullable=True),
        sa.Column("total_elements", sa.Integer(), nullable=True),
        sa.Column("population", sa.LargeBinary(), nullable=True),
        sa.Column("shards", sa.Integer(), nullable=False),
        sa.Column("finished_shards", sa.JSON(), nullable=False),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_reconciliation_runs"),
    )
    op.create_index(
        "ix_reconciliation_runs_scope_started_at", "reconciliation_runs", ["scope", "started_at"], unique=False
    )
    op.create_table(
        "telemetry_events",
        sa.Column("id", _row_id(), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("time", _time(), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_telemetry_events"),
    )
    op.create_index("ix_telemetry_events_name", "telemetry_events", ["name"], unique=False)
    op.create_index("ix_telemetry_events_time", "telemetry_events", ["time"], unique=False)


def downgrade() -> None:
    for table in (
        "telemetry_events",
        "reconciliation_runs",
        "reconciliation_pages",
        "reconciliation_mismatches",
        "outbox",
        "leases",
        "job_runs",
        "findings",
        "failures",
        "dead_letter_returns",
        "creations",
        "breakers",
        "actions",
    ):
        op.drop_table(table)
