"""Instances, join tokens, attempts, events, the lead, and what the last pass saw."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "fleet_instance",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("cluster", sa.Text, nullable=False),
        sa.Column("offer", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested_at", sa.Double, nullable=False),
        sa.Column("cloud_id", sa.Text),
        sa.Column("launched_at", sa.Double),
        sa.Column("enrolled_at", sa.Double),
        sa.Column("heartbeat_at", sa.Double),
        sa.Column("idle_since", sa.Double),
        sa.Column("drain_requested_at", sa.Double),
        sa.Column("stopped_pulling_at", sa.Double),
        sa.Column("terminate_requested_at", sa.Double),
        sa.Column("goodbye_at", sa.Double),
        sa.Column("gone_at", sa.Double),
        sa.Column("end_reason", sa.Text),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.Column("gpus", sa.Text, nullable=False),
        sa.Column("allocations", sa.Text, nullable=False),
        sa.Column("price_usd_per_hour", sa.Double),
        sa.Column("joined_by", sa.Text),
        sa.Column("token_hash", sa.Text, unique=True),
    )
    op.create_index("fleet_instance_by_age", "fleet_instance", ["cluster", "gone_at", "requested_at", "id"])
    op.create_table(
        "fleet_join",
        sa.Column("join_hash", sa.Text, primary_key=True),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "fleet_run",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("claimed_at", sa.Double, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("gpus", sa.Text, nullable=False),
        sa.Column("enqueued_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("result", sa.Text),
        sa.Column("exit_code", sa.Integer),
    )
    op.create_index("fleet_run_by_instance", "fleet_run", ["instance"])
    op.create_index("fleet_run_by_end", "fleet_run", ["ended_at"])
    op.create_table(
        "fleet_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("instance", sa.Text),
        sa.Column("task", sa.Text),
        sa.Column("queue", sa.Text),
        sa.Column("reason", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("fleet_event_by_instance", "fleet_event", ["instance", "seq"])
    op.create_index("fleet_event_by_task", "fleet_event", ["task", "seq"])
    op.create_index("fleet_event_by_age", "fleet_event", ["at"])
    op.create_table(
        "fleet_lead",
        sa.Column("cluster", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.Double, nullable=False),
    )
    op.create_table(
        "fleet_view",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("view", sa.Text, nullable=False),
    )
