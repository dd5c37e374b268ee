"""What machines say of themselves: processors, memory, disk, network; and which tasks' ends they have still to tell."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("fleet_instance", sa.Column("vitals", sa.Text))
    op.add_column("fleet_instance", sa.Column("unsettled", sa.Text, nullable=False, server_default="[]"))
