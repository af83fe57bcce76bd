"""Adds the reconciliation to runs and mismatches, and identifies a mismatch by a key instead of its booking.

Existing rows belong to the reconciliation of incentives, so their key is the booking.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RUNS = "reconciliation_runs"
_MISMATCHES = "reconciliation_mismatches"


def _reconciliation() -> sa.Column[str]:
    return sa.Column("reconciliation", sa.String(60), nullable=False, server_default="incentives")


def upgrade() -> None:
    """Adds the columns, and makes the key a part of the primary key."""
    op.add_column(_RUNS, _reconciliation())
    op.create_index("ix_reconciliation_runs_reconciliation_started_at", _RUNS, ["reconciliation", "started_at"])
    op.add_column(_MISMATCHES, sa.Column("key", sa.String(200), nullable=True))
    op.add_column(_MISMATCHES, _reconciliation())
    op.add_column(_MISMATCHES, sa.Column("kind", sa.String(40), nullable=True))
    op.add_column(_MISMATCHES, sa.Column("differences", sa.JSON(), nullable=True))
    op.execute(
        """UPDATE reconciliation_mismatches SET key = '{"bookingId":' || CAST(booking_id AS VARCHAR(20)) || '}'"""
    )
    with op.batch_alter_table(_MISMATCHES) as batch:
        batch.alter_column("key", existing_type=sa.String(200), nullable=False)
        batch.drop_constraint(f"pk_{_MISMATCHES}", type_="primary")
        batch.create_primary_key(f"pk_{_MISMATCHES}", ["run_id", "key"])
        batch.alter_column("booking_id", existing_type=sa.BigInteger(), nullable=True)
        batch.alter_column("offender_no", existing_type=sa.String(10), nullable=True)


def downgrade() -> None:
    """Drops the runs and mismatches of reconciliations other than incentives, and the columns."""
    op.execute("DELETE FROM reconciliation_mismatches WHERE reconciliation <> 'incentives'")
    op.execute("DELETE FROM reconciliation_runs WHERE reconciliation <> 'incentives'")
    with op.batch_alter_table(_MISMATCHES) as batch:
        batch.drop_constraint(f"pk_{_MISMATCHES}", type_="primary")
        batch.alter_column("booking_id", existing_type=sa.BigInteger(), nullable=False)
        batch.alter_column("offender_no", existing_type=sa.String(10), nullable=False)
        batch.create_primary_key(f"pk_{_MISMATCHES}", ["run_id", "booking_id"])
        for column in ("differences", "kind", "reconciliation", "key"):
            batch.drop_column(column)
    op.drop_index("ix_reconciliation_runs_reconciliation_started_at", _RUNS)
    op.drop_column(_RUNS, "reconciliation")
