# shellcheck shell=bash
# What all provision scripts share. Each script can run again at any time: it looks first, and does only what is missing.
#
# Facts come by environment: FLEET_PACKAGE (the directory of this package), FLEET_BAKE=1 (an image is made, nothing is started),
# FLEET_CPU_ONLY=1 (no GPU software), FLEET_GPU=1 (GPU software also where no GPU is, as on a machine that bakes),
# FLEET_IMAGE (the container image to have at hand).
set -euo pipefail

FLEET_PACKAGE=${FLEET_PACKAGE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a LC_ALL=C.UTF-8

say() { printf 'fleet provision: %s\n' "$*" >&2; }

fail() { # what, why, what next
  say "$*"
  exit 1
}

# version_of SECTION KEY: from versions.toml.
version_of() {
  local found
  found=$(sed -n "/^\[$1\]/,/^\[/ s/^$2 = \"\([^\"]*\)\".*/\1/p" "$FLEET_PACKAGE/versions.toml")
  [ -n "$found" ] || fail "versions.toml has no $2 in [$1]; the package is not whole"
  printf '%s\n' "$found"
}

is_installed() {
  local state
  state=$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) && [ "$state" = installed ]
}

# refresh_lists: once, and only where something is missing.
refresh_lists() {
  [ -z "${lists_are_fresh:-}" ] || return 0
  # Said here: who asks whether an archive has a package would take one that is not reached for one that has not.
  apt-get -q -o Acquire::Retries=3 update >&2 || fail "the archives of this machine cannot be read, as apt-get says above; are they within its reach?"
  lists_are_fresh=yes
}

forget_lists() { lists_are_fresh=; }

# exists PACKAGE: an archive of this machine has it.
exists() {
  refresh_lists
  [ -n "$(apt-cache --no-all-versions show "$1" 2>/dev/null)" ]
}

# want PACKAGE[=VERSION]...: what is not installed yet.
want() {
  local missing=() each
  for each in "$@"; do is_installed "${each%%=*}" || missing+=("$each"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  refresh_lists
  say "installing ${missing[*]}"
  dpkg --configure -a >&2 # what a reboot broke off
  # The lock is held at the first boot by the distribution's own unattended upgrades.
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 install --no-install-recommends "${missing[@]}" >&2 ||
    fail "${missing[*]} could not be installed, as apt-get says above; are the archives of this machine within its reach?"
}

# put FILE TARGET MODE: copies what differs; true where it did.
put() {
  if [ -f "$2" ] && cmp -s "$1" "$2" && [ "$(stat -c %a "$2")" = "${3#0}" ]; then return 1; fi
  install -D -m "$3" "$1" "$2"
  say "wrote $2"
}

has_systemd() { [ -d /run/systemd/system ]; }

is_bake() { [ -n "${FLEET_BAKE:-}" ]; }

# The vendor of every device on the PCI bus; 0x10de is NVIDIA.
has_nvidia_device() { grep -qsx 0x10de "${FLEET_SYSFS:-/sys}"/bus/pci/devices/*/vendor; }

# Of a GPU (class 03): the numbers of Turing and later begin at 1e02.
has_gpu_before_turing() {
  local device
  for device in "${FLEET_SYSFS:-/sys}"/bus/pci/devices/*; do
    if grep -qsx 0x10de "$device/vendor" && grep -qs '^0x03' "$device/class" && [ $(($(cat "$device/device"))) -lt $((0x1e00)) ]; then
      return 0
    fi
  done
  return 1
}

# A bridge (class 0680) of NVIDIA.
has_nvswitch() {
  local device
  for device in "${FLEET_SYSFS:-/sys}"/bus/pci/devices/*; do
    if grep -qsx 0x10de "$device/vendor" && grep -qs '^0x0680' "$device/class"; then return 0; fi
  done
  return 1
}

wants_gpu_software() {
  [ -z "${FLEET_CPU_ONLY:-}" ] || return 1
  [ -n "${FLEET_GPU:-}" ] || has_nvidia_device
}

# The machine's own Python, or one beside it that is new enough; its path.
python_for_fleet() {
  local minimum each
  minimum=$(version_of python minimum)
  for each in python3 "python$minimum"; do
    if command -v "$each" >/dev/null && "$each" -c "import sys; sys.exit(sys.version_info[:2] < tuple(map(int, '$minimum'.split('.'))))"; then
      command -v "$each"
      return
    fi
  done
  return 1
}
