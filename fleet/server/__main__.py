"""`python -m fleet.server --listen 127.0.0.1:8008 --state DIR [--public-url URL]`: the server alone."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from fleet.errors import FleetError
from fleet.server.serve import serve


def main() -> int:
    """0 after SIGTERM; 1 with one line when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m fleet.server", description="The embedded ClearML-compatible API.")
    parser.add_argument("--listen", default="127.0.0.1:8008", metavar="HOST:PORT")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="database, files, first credential")
    parser.add_argument("--public-url", metavar="URL", help="what clients call, if it is not where we listen")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(options.listen, options.state, options.public_url)
    except FleetError as error:
        print(f"fleet server: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
