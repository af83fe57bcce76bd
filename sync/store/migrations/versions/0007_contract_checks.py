"""Adds the table with the result of the last contract check of each upstream service.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table `contract_checks`."""
    op.create_table(
        "contract_checks",
        sa.Column("service", sa.String(length=40), nullable=False),
        sa.Column("version", sa.String(length=200), nullable=False),
        sa.Column("findings", sa.JSON(), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("service", name="pk_contract_checks"),
    )


def downgrade() -> None:
    """Drops the table `contract_checks`."""
    op.drop_table("contract_checks")
