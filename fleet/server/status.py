"""Which status may follow which. Pure."""

from __future__ import annotations

CREATED = "created"
QUEUED = "queued"
IN_PROGRESS = "in_progress"
STOPPED = "stopped"
COMPLETED = "completed"
FAILED = "failed"
CLOSED = "closed"
PUBLISHED = "published"

# The word in status_message by which a running task's agent learns that its user wants the end.
STOPPING = "stopping"

ALL = (CREATED, QUEUED, IN_PROGRESS, STOPPED, COMPLETED, FAILED, CLOSED, PUBLISHED, "publishing", "unknown")
ENDED = frozenset({STOPPED, COMPLETED, FAILED, CLOSED, PUBLISHED})

_NEXT = {
    CREATED: {QUEUED, IN_PROGRESS},
    QUEUED: {CREATED, IN_PROGRESS, STOPPED},
    IN_PROGRESS: {STOPPED, FAILED, CREATED, COMPLETED},
    STOPPED: {CLOSED, CREATED, FAILED, QUEUED, IN_PROGRESS, PUBLISHED, COMPLETED},
    FAILED: {CREATED, STOPPED, PUBLISHED, QUEUED},
    COMPLETED: {PUBLISHED, IN_PROGRESS, CREATED},
    CLOSED: {CREATED, FAILED, PUBLISHED, STOPPED},
    PUBLISHED: set[str](),
}


def may_become(current: str, new: str, force: bool = False) -> bool:
    """Whether a task may go from `current` to `new`. The same again is always allowed: clients repeat themselves."""
    return force or current == new or new in _NEXT.get(current, set())
