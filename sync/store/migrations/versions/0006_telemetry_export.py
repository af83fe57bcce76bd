"""Adds the operation id to telemetry events, and whether Application Insights has accepted them.

Events from earlier versions are not sent.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_EVENTS = "telemetry_events"
_INDEX = "ix_telemetry_events_due"


def upgrade() -> None:
    """Adds the columns, and an index of the events that are still to be sent."""
    op.add_column(_EVENTS, sa.Column("operation_id", sa.String(32), nullable=True))
    op.add_column(_EVENTS, sa.Column("export", sa.String(10), nullable=True))
    due = sa.text("export = 'due'")
    op.create_index(_INDEX, _EVENTS, ["id"], sqlite_where=due, postgresql_where=due)


def downgrade() -> None:
    """Drops the columns and the index."""
    op.drop_index(_INDEX, _EVENTS)
    op.drop_column(_EVENTS, "export")
    op.drop_column(_EVENTS, "operation_id")
