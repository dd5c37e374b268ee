"""The GPUs of this machine."""

from typing import Any


def list_gpus() -> tuple[Any, ...]:
    return ()
