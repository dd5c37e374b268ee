#!/usr/bin/env bash
# The container engine of the distribution, unless one is there.
. "$(dirname "$0")/lib.sh"

if command -v dockerd >/dev/null; then exit 0; fi
want "$(version_of docker package)" iptables
