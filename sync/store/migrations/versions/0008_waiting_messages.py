"""Adds the table of the messages that wait on a queue, with what they wait for.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table `waiting_messages`."""
    op.create_table(
        "waiting_messages",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("message_key", sa.String(length=120), nullable=False),
        sa.Column("waits_for", sa.String(length=20), nullable=False),
        sa.Column("service", sa.String(length=40), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_waiting_messages"),
        sa.UniqueConstraint("queue", "message_key", name="uq_waiting_messages_queue_message_key"),
    )


def downgrade() -> None:
    """Drops the table `waiting_messages`."""
    op.drop_table("waiting_messages")
