"""PURE: reasons of the edge that need more than a sentence of their own."""

from __future__ import annotations

from datetime import timedelta

from fleet.model import Reason, Task


def contact_lost(timeout: timedelta) -> Reason:
    text = "neither the ClearML server nor the dispatcher answered for too long; others may be given these tasks"
    return Reason(code="contact_lost", text=text, limit=f"contact_timeout={timeout.total_seconds():g}s")


def not_booted(timeout: timedelta) -> Reason:
    seconds = f"{timeout.total_seconds():g}"
    text = f"its startup hooks were not done {seconds} s after it enrolled"
    return Reason(code="boot_timeout", text=text, limit=f"boot_timeout={seconds}s")


def too_old(max_lifetime: timedelta) -> Reason:
    limit = f"max_lifetime={max_lifetime.total_seconds():g}s"
    return Reason(code="max_lifetime", text="this machine has reached its maximum lifetime", limit=limit)


def too_much_memory(task: Task, *, used_gib: float, allowed_gib: float) -> Reason:
    text = (
        f"it uses {used_gib:.1f} GiB of GPU memory; its share of the GPU, {task.need}, is {allowed_gib:.1f} "
        f"GiB, and others use the rest; let it use less (FLEET_GPU_MEMORY_LIMIT_MIB), or ask for a larger part or a whole GPU"
    )
    return Reason(code="gpu_memory_exceeded", text=text, task=task.id, queue=task.queue, limit=f"gpus={task.need}")


def gpu_sick(task: Task, why: str) -> Reason:
    """Whatever becomes of the task on this GPU is not its own doing."""
    return Reason(code="gpu_sick", text=f"a GPU that it holds is sick: {why}", task=task.id, queue=task.queue)
