#!/usr/bin/env bash
# Python, git, certificates, the packet filter.
. "$(dirname "$0")/lib.sh"

# Of a machine that was baked before: nothing shall end it while it is baked anew.
if is_bake && has_systemd; then systemctl stop fleet-watch.timer fleet-lifetime.timer 2>/dev/null || true; fi

want ca-certificates git nftables python3
if ! python=$(python_for_fleet); then
  minimum=$(version_of python minimum)
  want "python$minimum" "python$minimum-venv"
  python=$(python_for_fleet) || fail "Python $minimum or newer is not in this distribution; take a newer release"
fi
# Debian and Ubuntu keep apart what makes environments.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  want "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi
