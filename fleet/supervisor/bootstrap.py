"""What runs first in a container: it makes the agent there, where the image does not bring it, and becomes the agent.

Every step that the image makes needless is left out: an image with the wanted clearml-agent starts without any network.
Source: docs/adr/0022-containers.md
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

MOUNT = "/run/fleet"  # in the container

# Of the stock agent's own prologue: the newest python with pip that the image has, else the distribution's; then
# clearml-agent by pip; then the task's setup script, in this very shell, so that what it exports is seen.
SCRIPT = f"""\
if [ -z "$BASH_VERSION" ] && command -v bash >/dev/null 2>&1; then exec bash {MOUNT}/start "$@"; fi
exec 2>&1 </dev/null
. {MOUNT}/environment
wanted=$1 needs_git=$2
export DEBIAN_FRONTEND=noninteractive PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore

has_agent() {{
  "$1" - "$wanted" <<'END' >/dev/null 2>&1
import sys
from importlib.metadata import version
sys.exit(version("clearml-agent") != (sys.argv[1] or version("clearml-agent")))
END
}}
pythons() {{
  echo python3
  for minor in 16 15 14 13 12 11 10 9 8 7 6; do echo "python3.$minor"; done
}}
install() {{
  if command -v apt-get >/dev/null 2>&1; then apt-get update -q; apt-get install -y -q --no-install-recommends "$@"
  elif command -v dnf >/dev/null 2>&1; then dnf install -y "$@"
  elif command -v apk >/dev/null 2>&1; then apk add "$@"
  else echo "### fleet: $* is not in this image, and there is no apt-get, dnf or apk to install it ###"; fi
}}

python=
for each in $(pythons); do
  command -v "$each" >/dev/null 2>&1 && has_agent "$each" && python=$each && break
done
if [ -n "$needs_git" ] && ! command -v git >/dev/null 2>&1; then install git ca-certificates; fi
if [ -z "$python" ]; then
  for each in $(pythons); do
    "$each" -m pip --version >/dev/null 2>&1 && python=$each && break
  done
  if [ -z "$python" ]; then python=python3; install python3-pip; fi
  "$python" -m pip install -q "clearml-agent${{wanted:+==$wanted}}"
  if ! has_agent "$python"; then
    echo "### fleet: clearml-agent $wanted could not be installed in this image; put it in, or let it reach a package index ###"
    exit 125
  fi
fi
if [ -s {MOUNT}/setup ]; then . {MOUNT}/setup; fi
exec "$python" -u -m clearml_agent execute --disable-monitoring --id "$FLEET_TASK_ID"
"""


def command(version: str | None, has_repository: bool) -> tuple[str, ...]:
    """The script, with the version of clearml-agent that it has to be, and whether it takes git."""
    return ("/bin/sh", f"{MOUNT}/start", version or "", "git" if has_repository else "")


def files(environment: Mapping[str, str], conf: str, setup: str) -> dict[str, str]:
    """What is mounted into a container: names and texts."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in environment.items()]
    script = setup.replace("\r\n", "\n")
    return {
        "start": SCRIPT,
        "environment": "".join(lines),
        "clearml.conf": conf,
        "setup": script + "\n" if script.strip() else "",
    }
