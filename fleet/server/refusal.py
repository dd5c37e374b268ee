"""What the server refuses, with the codes that the clients of the API know (HTTP code / subcode of the envelope)."""

from __future__ import annotations


class Refusal(Exception):
    """The call was understood and is refused: goes out as an envelope with `code` and `subcode`. Nothing was changed."""

    def __init__(self, code: int, subcode: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.subcode = subcode


def no_credentials() -> Refusal:
    return Refusal(401, 20, "Unauthorized (missing credentials)")


def wrong_credentials() -> Refusal:
    return Refusal(401, 22, "Unauthorized (invalid credentials) (failed to locate provided credentials)")


def wrong_token(why: str) -> Refusal:
    return Refusal(401, 30, f"Unauthorized (invalid token) ({why})")


def unknown_endpoint(name: str, version: str) -> Refusal:
    return Refusal(404, 0, f"Unable to find endpoint for name {name} and version {version}")


def invalid(field: str, why: str) -> Refusal:
    return Refusal(400, 800, f"Data validation error: {field}={why}")


def not_unique(kind: str, name: str) -> Refusal:
    return Refusal(
        400, 801, f"Value combination already exists (unique field already contains this value): {kind}={name}"
    )


def no_task(task: str) -> Refusal:
    return Refusal(400, 101, f"Invalid task id: ids=({task})")


def wrong_status(current: str, new: str) -> Refusal:
    return Refusal(400, 110, f"Invalid task status (Invalid status change): current_status={current}, new_status={new}")


def lost_race(task: str, status: str) -> Refusal:
    return Refusal(400, 121, f"Task was changed by somebody else meanwhile: task={task}, status={status}")


def events_not_added(why: str) -> Refusal:
    return Refusal(400, 131, f"Events not added: {why}")


def no_project(project: str) -> Refusal:
    return Refusal(400, 401, f"Invalid project id: id={project}")


def no_model(model: str) -> Refusal:
    return Refusal(400, 201, f"Invalid model id: id={model}")


def no_queue(queue: str) -> Refusal:
    return Refusal(400, 701, f"Invalid queue id: id={queue}")


def queue_not_empty(queue: str) -> Refusal:
    return Refusal(400, 702, f"Queue is not empty, use force=true to delete: id={queue}")


def not_in_queue(task: str, queue: str) -> Refusal:
    return Refusal(400, 703, f"Task not in queue: task={task}, queue={queue}")


def already_queued(task: str) -> Refusal:
    return Refusal(400, 706, f"Failed adding task to queue since task is already queued: task={task}")
