"""Whose turn it is: what supervisors are told of shares and of machines held for a task."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "fleet_turns",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("turns", sa.Text, nullable=False),
    )
