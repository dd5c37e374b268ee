#!/usr/bin/env bash
# The container engine of the distribution, unless one is there.
. "$(dirname "$0")/lib.sh"

if command -v dockerd >/dev/null; then exit 0; fi
# Before the engine starts: its containers, whoever starts them, are not among the services that may ask for metadata.
if [ ! -e /etc/docker/daemon.json ]; then put "$FLEET_PACKAGE/provision/files/daemon.json" /etc/docker/daemon.json 0644; fi
want "$(version_of docker package)" iptables
