"""What a machine without a dispatcher works by, handed from the process that read its file to the one that works, in memory.

It holds secrets: neither arguments nor the environment may, and a file would outlive both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from fleet.errors import ConfigError, WireError
from fleet.wire import Enrolled, from_data, to_data

OPTION = "--standalone"


def hand(enrolled: Enrolled) -> list[str]:
    """Arguments for `python -m fleet.supervisor`, which has to be this very process (`exec`)."""
    descriptor = os.memfd_create("fleet-standalone", 0)  # without close-on-exec
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as file:
        json.dump(to_data(enrolled), file)
    return [OPTION, str(descriptor)]


def taken(arguments: Sequence[str]) -> Enrolled | None:
    """What was handed over; None: nothing was, there is a dispatcher. No process of ours inherits it.

    Raises:
        ConfigError: other arguments than `hand` gives.
    """
    if not arguments:
        return None
    try:
        option, descriptor = arguments
        if option != OPTION:
            raise ValueError(option)
        with os.fdopen(int(descriptor), encoding="utf-8") as file:
            file.seek(0)
            return from_data(Enrolled, json.load(file))
    except (ValueError, OSError, WireError) as error:
        raise ConfigError(
            f"{' '.join(arguments)}: not understood; start it with: fleet supervise {OPTION} --config FILE"
        ) from error
