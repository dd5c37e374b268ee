#!/usr/bin/env bash
# The default container image, so that the first task need not wait for it.
. "$(dirname "$0")/lib.sh"

image=${FLEET_IMAGE:-}
if [ -z "$image" ] || docker image inspect "$image" >/dev/null 2>&1; then exit 0; fi
if has_systemd; then systemctl start docker.service; fi
say "pulling $image"
if ! docker pull -q "$image" >&2; then
  if is_bake; then fail "$image could not be pulled; is its name right, and has this machine a network?"; fi
  say "$image could not be pulled now; the first task that wants it pulls it"
fi
