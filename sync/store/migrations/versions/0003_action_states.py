"""Adds the state of actions, the time of their completion, and the lease that their process holds."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("actions", sa.Column("state", sa.String(length=20), nullable=False, server_default="done"))
    op.add_column("actions", sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("actions", sa.Column("lease", sa.String(length=60), nullable=True))
    op.execute("UPDATE actions SET state = 'failed' WHERE outcome LIKE 'failed: %'")
    op.execute("UPDATE actions SET finished_at = time")
    op.create_index("ix_actions_action_target", "actions", ["action", "target"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_actions_action_target", "actions")
    for column in ("lease", "finished_at", "state"):
        op.drop_column("actions", column)
