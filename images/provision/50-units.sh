#!/usr/bin/env bash
# systemd's units, the wait for GPUs, the wall between tasks and the machine's metadata. What ends a machine is on from the next boot
# on; the supervisor is not: the first boot of a machine that fleet launched turns it on.
. "$(dirname "$0")/lib.sh"

units=/etc/systemd/system changed=
for unit in "$FLEET_PACKAGE"/systemd/*; do
  name=$(basename "$unit")
  [ "$name" = fleet-dispatch.service ] && continue
  if put "$unit" "$units/$name" 0644; then changed=yes; fi
done
if put "$FLEET_PACKAGE/provision/files/image.conf" "$units/fleet-supervise.service.d/image.conf" 0644; then changed=yes; fi
if put "$FLEET_PACKAGE/provision/files/fleet-metadata.service" "$units/fleet-metadata.service" 0644; then changed=yes; fi
put "$FLEET_PACKAGE/provision/files/metadata.nft" /etc/fleet/metadata.nft 0644 || true
put "$FLEET_PACKAGE/provision/files/fleet-metadata" /usr/local/sbin/fleet-metadata 0755 || true
put "$FLEET_PACKAGE/provision/files/fleet-wait-gpus" /usr/local/sbin/fleet-wait-gpus 0755 || true

if [ -n "$changed" ] && has_systemd; then systemctl daemon-reload; fi
for unit in fleet-watch.timer fleet-lifetime.timer fleet-metadata.service; do
  systemctl is-enabled -q "$unit" 2>/dev/null || systemctl enable -q "$unit"
done
if has_systemd && ! is_bake; then systemctl start fleet-metadata.service fleet-watch.timer fleet-lifetime.timer; fi
