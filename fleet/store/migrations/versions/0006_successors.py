"""Tokens of supervisors have an age, and a successor that works beside them until it is first used."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("fleet_instance", sa.Column("token_issued_at", sa.Double))
    op.add_column("fleet_instance", sa.Column("successor_hash", sa.Text))
    op.add_column("fleet_instance", sa.Column("successor_at", sa.Double))
    op.create_index("fleet_instance_by_successor", "fleet_instance", ["successor_hash"], unique=True)
