"""What the centre wants of each machine as long as it says nothing else."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("fleet_instance", sa.Column("standing", sa.Text, nullable=False, server_default="{}"))
