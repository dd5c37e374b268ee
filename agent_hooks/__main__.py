"""`python -m agent_hooks idle ...`: this package beside an ordinary `clearml-agent daemon`, without fleet."""

from __future__ import annotations

import sys

USAGE = (
    "usage: python -m agent_hooks idle [--idle-timeout 15m] [--end poweroff] ... (python -m agent_hooks idle --help)"
)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["idle"]:
        from agent_hooks.idle import main as idle

        return idle(arguments[1:])
    is_asked = arguments[:1] in (["-h"], ["--help"])
    print(USAGE, file=sys.stdout if is_asked else sys.stderr)
    return 0 if is_asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
