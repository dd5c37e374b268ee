# Waits for the end of its input, that is for the end of whoever made the box, however it came; then leaves nothing of it.
# guard.sh NAME DIRECTORY   of the network namespace and the control groups; of everything else
trap '' INT TERM HUP
cat >/dev/null

name=$1 place=$2
groups() {
  for group in "/sys/fs/cgroup/$name" /sys/fs/cgroup/*/"$name"; do
    [ -d "$group" ] && find "$group" -depth "$@"
  done
}
tries=0
while [ "$tries" -lt 100 ]; do
  left=$(groups -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
  [ -n "$left" ] || break
  for pid in $left; do [ "$pid" = 0 ] || kill -s KILL "$pid" 2>/dev/null; done
  tries=$((tries + 1))
  sleep 0.05
done
ip netns del "$name" 2>/dev/null
for machine in "$place"/machines/*; do
  id=${machine##*/}
  rm -rf "/run/systemd/nspawn/propagate/$id" "/run/systemd/nspawn/unix-export/$id"
  umount --lazy "$machine/root" 2>/dev/null
done
umount --lazy "$place/root" 2>/dev/null
groups -type d -exec rmdir {} + 2>/dev/null
rm -rf --one-file-system "$place"
