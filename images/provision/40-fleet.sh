#!/usr/bin/env bash
# The user, the supervisor in /opt/fleet, and clearml-agent in an environment of its own, /opt/fleet-agent.
. "$(dirname "$0")/lib.sh"

if ! getent passwd fleet >/dev/null; then
  useradd --system --create-home --home-dir /var/lib/fleet --shell /usr/sbin/nologin fleet
fi
if getent group docker >/dev/null && ! id -nG fleet | grep -qw docker; then usermod -aG docker fleet; fi

python=$(python_for_fleet) || fail "no Python for fleet; run 10-base.sh first"
shopt -s nullglob
wheels=("$FLEET_PACKAGE"/fleet-*.whl)
[ ${#wheels[@]} = 1 ] || fail "the package has ${#wheels[@]} wheels of fleet, and should have one"

# environment DIRECTORY LOCK [WHEEL]: of hashed packages alone; made anew where any of its parts changed, whole or not at all.
environment() {
  local place=$1 lock=$2 wheel=${3:-} made_from
  made_from=$(cat "$lock" ${wheel:+"$wheel"} | sha256sum)
  if [ "$(cat "$place/.made-from" 2>/dev/null)" = "$made_from" ]; then return; fi
  say "installing $place"
  rm -rf "$place"
  "$python" -m venv "$place"
  local pip=("$place/bin/python" -m pip --disable-pip-version-check --no-cache-dir --quiet --retries 5 install)
  "${pip[@]}" --require-hashes -r "$lock"
  if [ -n "$wheel" ]; then "${pip[@]}" --no-deps --no-index "$wheel"; fi
  printf '%s\n' "$made_from" >"$place/.made-from"
}

environment /opt/fleet "$FLEET_PACKAGE/requirements-edge.lock" "${wheels[0]}"
environment /opt/fleet-agent "$FLEET_PACKAGE/requirements-agent.lock"
/opt/fleet/bin/fleet version >/dev/null || fail "fleet does not start from /opt/fleet"
