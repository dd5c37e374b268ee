"""What keeps an idle machine awake, and until when the tasks of one that drains may run."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("fleet_instance", sa.Column("kept_awake", sa.Text))
    op.add_column("fleet_instance", sa.Column("drain_by", sa.Double))
