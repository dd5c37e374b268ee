#!/usr/bin/env bash
# Makes a stock Debian or Ubuntu a machine of fleet: run.sh bake | boot. As root; again as often as one likes.
# Packer runs `bake`, a first boot on a stock image `boot`. What is done is left alone; the log is /var/log/fleet-provision.log.
set -euo pipefail

case ${1:-} in
  bake) export FLEET_BAKE=1 ;;
  boot) unset FLEET_BAKE ;;
  *)
    echo "usage: run.sh bake|boot" >&2
    exit 2
    ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
export FLEET_PACKAGE=${FLEET_PACKAGE:-$(dirname "$here")}
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || fail "must be run as root"
command -v apt-get >/dev/null || fail "knows Debian and Ubuntu alone, and finds no apt-get; take an image of one of them"

exec > >(tee -a /var/log/fleet-provision.log) 2>&1
for script in "$here"/[0-9][0-9]-*.sh; do
  name=$(basename "$script" .sh)
  if is_bake || [ "$name" != 90-clean ]; then
    began=$SECONDS
    bash "$script" || fail "$name failed; what it said is above"
    say "$name: $((SECONDS - began)) s"
  fi
done
# What the first boot looks for: nothing more is fetched by a machine of this image.
[ -e /opt/fleet/.provisioned ] || date -u +%FT%TZ >/opt/fleet/.provisioned
say "done"
