"""The fleet file's `agent.init_script`: run by bash, before the hooks of the start, once for each boot of a machine."""

from __future__ import annotations

from pathlib import Path

from agent_hooks.hooks import Hook
from fleet.supervisor.private import write_private

SCRIPT, DONE = "init_script", "init_script.done"
RUN = '/bin/bash "$1" && : >"$2"'  # a start that fails is tried again by the next supervisor


def init_script(text: str, private: Path) -> tuple[Hook, ...]:
    """Keep the script in the private directory (it may hold credentials); empty if it has run already.

    A supervisor that was restarted finds its tasks' machine as it made it. In memory the mark goes with a reboot.
    """
    script, done = private / SCRIPT, private / DONE
    if not text or (done.exists() and script.exists() and script.read_text(encoding="utf-8") == text):
        return ()
    done.unlink(missing_ok=True)
    write_private(script, text)
    return (Hook(name="agent.init_script", command=("/bin/bash", "-c", RUN, "bash", str(script), str(done))),)
