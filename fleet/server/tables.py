"""The server's tables. What is filtered or compared has a column of its own; the rest of an object is JSON in `doc`.

Times are ISO-8601 text in UTC with microseconds, as the API answers them: of one width, so that they sort as text.
`tests/server/test_server_tables.py` holds these to the migrations.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
TIME = sa.String(32)
ID = sa.String(64)

SETTING = sa.Table(
    "server_setting",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

CREDENTIAL = sa.Table(
    "server_credential",
    METADATA,
    sa.Column("access_key", ID, primary_key=True),
    sa.Column("secret_hash", sa.String(64), nullable=False),  # SHA-256 of 256 random bits: nothing to guess
    sa.Column("user", sa.String(255), nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("created", TIME, nullable=False),
)

PROJECT = sa.Table(
    "server_project",
    METADATA,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("created", TIME, nullable=False),
    sa.Column("last_update", TIME, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
)

TASK = sa.Table(
    "server_task",
    METADATA,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, index=True),
    sa.Column("project", ID, index=True),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("parent", ID, index=True),
    sa.Column("user", sa.String(255), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("status_reason", sa.Text, nullable=False),
    sa.Column("status_message", sa.Text, nullable=False),
    sa.Column("status_changed", TIME),
    sa.Column("queue", ID),  # execution.queue: the one it was last enqueued to
    sa.Column("enqueue_status", sa.String(16)),  # what it goes back to when it is taken out of its queue
    sa.Column("created", TIME, nullable=False),
    sa.Column("started", TIME),
    sa.Column("completed", TIME),
    sa.Column("published", TIME),
    sa.Column("last_update", TIME, nullable=False),
    sa.Column("last_worker", sa.String(255)),
    sa.Column("last_worker_report", TIME),
    sa.Column("last_iteration", sa.BigInteger, nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),  # last_metrics, JSON
    sa.Column("doc", sa.Text, nullable=False),
    sa.Index("ix_server_task_status_last_update", "status", "last_update"),
    sa.Index("ix_server_task_last_update", "last_update"),
)

TASK_TAG = sa.Table(  # a copy of the task's tags and system_tags, for filters
    "server_task_tag",
    METADATA,
    sa.Column("task", ID, sa.ForeignKey("server_task.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("kind", sa.String(16), primary_key=True),  # "tags" or "system_tags"
    sa.Column("tag", sa.String(255), primary_key=True),
    sa.Index("ix_server_task_tag_tag", "kind", "tag"),
)

QUEUE = sa.Table(
    "server_queue",
    METADATA,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("created", TIME, nullable=False),
    sa.Column("last_update", TIME, nullable=False),
    sa.Column("deleted", TIME),  # a tombstone: agents that still poll it must get an answer
    sa.Column("doc", sa.Text, nullable=False),
)
sa.Index(
    "ix_server_queue_name",
    QUEUE.c.name,
    unique=True,
    sqlite_where=QUEUE.c.deleted.is_(None),
    postgresql_where=QUEUE.c.deleted.is_(None),
)

ENTRY = sa.Table(  # a task that waits; in one queue at a time
    "server_entry",
    METADATA,
    sa.Column("task", ID, sa.ForeignKey("server_task.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("queue", ID, nullable=False),
    sa.Column("rank", sa.BigInteger, nullable=False),  # lowest = head
    sa.Column("added", TIME, nullable=False),
    sa.Column("held_until", TIME),  # not given away before, unless its old worker let go
    sa.Index("ix_server_entry_queue_rank", "queue", "rank"),
)

CLAIM = sa.Table(  # a task that was taken and has not started: it goes back to the head at `until`
    "server_claim",
    METADATA,
    sa.Column("task", ID, sa.ForeignKey("server_task.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("queue", ID, nullable=False),
    sa.Column("added", TIME, nullable=False),
    sa.Column("claimed", TIME, nullable=False),
    sa.Column("until", TIME, nullable=False, index=True),
)

WORKER = sa.Table(
    "server_worker",
    METADATA,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("task", ID, index=True),  # of its last report; None = idle
    sa.Column("queue", ID),
    sa.Column("registered", TIME, nullable=False),
    sa.Column("reported", TIME, nullable=False),
    sa.Column("active", TIME, nullable=False),
    sa.Column("timeout_s", sa.Integer, nullable=False),
    sa.Column("expires", TIME, nullable=False, index=True),
    sa.Column("doc", sa.Text, nullable=False),
)

PROPERTY = sa.Table(  # a worker's runtime properties; they outlive its registration, so that a drain survives a restart
    "server_property",
    METADATA,
    sa.Column("worker", sa.String(255), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

LOG = sa.Table(
    "server_log",
    METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("task", ID, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),  # the sender's clock, milliseconds
    sa.Column("worker", sa.String(255), nullable=False),
    sa.Column("level", sa.String(32), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index("ix_server_log_task_at_seq", "task", "at", "seq"),
)

EVENT = sa.Table(  # scalars, plots, debug images, vectors
    "server_event",
    METADATA,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("task", ID, nullable=False),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("metric", sa.Text, nullable=False),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("iter", sa.BigInteger, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.String(255), nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("doc", sa.Text, nullable=False),
    sa.Index("ix_server_event_task", "task", "type", "metric", "variant", "iter"),
)

BATCH = sa.Table(  # what was stored lately, so that a batch that is sent again is not stored again
    "server_batch",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("stored", TIME, nullable=False, index=True),
    sa.Column("added", sa.Integer, nullable=False),
)

MODEL = sa.Table(
    "server_model",
    METADATA,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("project", ID),
    sa.Column("task", ID, index=True),
    sa.Column("created", TIME, nullable=False),
    sa.Column("last_update", TIME, nullable=False),
    sa.Column("doc", sa.Text, nullable=False),
)
