#!/usr/bin/env bash
# The end of a bake: nothing of the machine that baked may be in the image, above all no key, no identity, no first boot that was done.
. "$(dirname "$0")/lib.sh"

apt-get clean
rm -rf /var/lib/apt/lists/* /tmp/fleet-package /root/.cache
rm -f /etc/fleet/supervise.env /etc/fleet/first-boot-done
# Of a machine that fleet launched, before it was baked: the next one is told by user-data of its own, and starts nothing until then.
for unit in fleet-first-boot.service fleet-supervise.service; do systemctl disable -q "$unit" 2>/dev/null || true; done
rm -f /etc/systemd/system/fleet-first-boot.service /usr/local/sbin/fleet-first-boot /etc/fleet/init.sh
rm -f /etc/systemd/system/fleet-lifetime.timer.d/lifetime.conf /etc/systemd/system/fleet-watch.service.d/boot.conf
rm -rf /var/lib/fleet/supervisor # of a machine of fleet that was baked again: who it was, what its tasks left
rm -f /root/.bash_history /root/.ssh/authorized_keys /home/*/.bash_history /home/*/.ssh/authorized_keys
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub # made anew at the first boot, by cloud-init
if command -v cloud-init >/dev/null; then cloud-init clean --logs >&2; fi
: >/etc/machine-id
if [ -f /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then rm -f /var/lib/dbus/machine-id; fi
rm -f /var/lib/systemd/random-seed
find /var/log -type f ! -name fleet-provision.log -exec truncate -s 0 {} +
