"""Adds the table with the time at which each machine started, for the shared clock on SQLite.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table `clocks`."""
    op.create_table(
        "clocks",
        sa.Column("boot", sa.String(40), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("boot", name=op.f("pk_clocks")),
    )


def downgrade() -> None:
    """Drops the table `clocks`."""
    op.drop_table("clocks")
