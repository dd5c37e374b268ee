"""`python -m fleet.supervisor`: one machine's supervisor, told by its environment where the centre is.

    FLEET_CENTRE_URL  the dispatcher                 FLEET_DIR        where to work (default: a directory in the cache)
    FLEET_INSTANCE    which instance this is         FLEET_SIM_GPUS   simulated GPUs as JSON (absent: the real ones)
    FLEET_JOIN_TOKEN  to enrol with, once            FLEET_HOOKS_DIR  hooks (default: /etc/fleet/hooks)
    FLEET_POWER       how the machine ends           FLEET_ALIVE_FILE  where a sign of life is left
    FLEET_CENTRE_CERT_SHA256  the authority that vouches for the centre (absent: those that this machine trusts)
    FLEET_RUN_DIR     where files with credentials lie (default: a place in memory)
    FLEET_TASK_USER   tasks run as this user, in the modes venv and interpreter (default: as ours)

Exit codes: 0 ended as planned, 1 refused. Needs the base install only.
"""

from __future__ import annotations

import sys

from fleet.supervisor.start import main

if __name__ == "__main__":
    sys.exit(main())
