#!/usr/bin/env bash
# NVIDIA's driver and container toolkit, where there is a GPU. An image that brings its driver keeps it.
# Names and steps: packages.ubuntu.com, packages.debian.org; NVIDIA's "Driver Installation Guide", "Installing the NVIDIA Container
# Toolkit" and "Fabric Manager for NVIDIA NVSwitch Systems".
. "$(dirname "$0")/lib.sh"

if ! wants_gpu_software; then
  say "no NVIDIA GPU, or none wanted: no driver"
  exit 0
fi
. /etc/os-release
architecture=$(dpkg --print-architecture) kernel=$(uname -r)
by_us=/etc/fleet/driver-by-fleet # so that an installation that was broken off is not taken for the image's own

no_headers() {
  fail "linux-headers-$kernel is not in the archive: this image is older than its archive; take a newer one, or one that has a driver"
}

ubuntu_driver() {
  local branch kind=-open modules
  branch=$(version_of nvidia driver)
  # The open modules are for Turing and later, and the only ones for Blackwell; before Turing it is the other way round.
  if has_gpu_before_turing; then kind=; fi
  modules=linux-modules-nvidia-$branch-server$kind-$kernel
  if is_installed "$modules" || exists "$modules"; then
    # Built and signed for this very kernel: no compiler, and Secure Boot loads it.
    want "$modules" "nvidia-headless-no-dkms-$branch-server$kind" "nvidia-utils-$branch-server"
  else
    is_installed "linux-headers-$kernel" || exists "linux-headers-$kernel" || no_headers
    want "linux-headers-$kernel" "nvidia-headless-$branch-server$kind" "nvidia-utils-$branch-server"
  fi
  if is_bake || has_nvswitch; then
    want "nvidia-fabricmanager-$branch"
    # Without it no program gets at GPUs that are joined by switches. On other machines it ends at once.
    systemctl enable -q nvidia-fabricmanager.service
    if has_systemd && ! is_bake; then systemctl start --no-block nvidia-fabricmanager.service; fi
  fi
}

debian_driver() {
  local file part
  if has_nvswitch; then fail "these GPUs are joined by NVSwitches, and Debian has no fabric manager for them; take Ubuntu"; fi
  # The driver is not free software: Debian keeps it in parts of its archive that are off.
  for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/debian*.list; do
    [ -f "$file" ] || continue
    for part in contrib non-free non-free-firmware; do
      if grep -qE "^(Components:|deb )" "$file" && ! grep -qE "^(Components:|deb ).* $part( |\$)" "$file"; then
        sed -i -E "s/^(Components:|deb ).*/& $part/" "$file"
        forget_lists
      fi
    done
  done
  is_installed "linux-headers-$kernel" || exists "linux-headers-$kernel" || no_headers
  # Not the metapackage nvidia-driver, which brings X.
  want "linux-headers-$kernel" nvidia-kernel-dkms libcuda1 nvidia-smi nvidia-persistenced
}

if command -v nvidia-smi >/dev/null && [ ! -e "$by_us" ]; then
  say "there is a driver: $(command -v nvidia-smi)"
else
  install -d /etc/fleet
  [ -e "$by_us" ] || touch "$by_us"
  case $ID in
    ubuntu) ubuntu_driver ;;
    debian) debian_driver ;;
    *) fail "no driver is known for $ID; take Ubuntu or Debian, or an image that has one" ;;
  esac
  put "$FLEET_PACKAGE/provision/files/keep-driver.conf" /etc/apt/apt.conf.d/52fleet-driver 0644 || true
fi

version=$(version_of nvidia toolkit) repository=$(version_of nvidia toolkit_repository)
if ! is_installed nvidia-container-toolkit; then
  key=/usr/share/keyrings/nvidia-container-toolkit.asc
  # apt's own: it goes through the proxy that apt goes through.
  /usr/lib/apt/apt-helper -q -o Acquire::Retries=3 download-file "$repository/gpgkey" "$key" >&2 ||
    fail "NVIDIA's archive $repository cannot be reached from here; open a way to it, or name a mirror: FLEET_NVIDIA_REPOSITORY"
  echo "deb [signed-by=$key] $repository/stable/deb/$architecture /" >/etc/apt/sources.list.d/nvidia-container-toolkit.list
  forget_lists
  want "libnvidia-container1=$version" "libnvidia-container-tools=$version" \
    "nvidia-container-toolkit-base=$version" "nvidia-container-toolkit=$version"
fi
if ! grep -qs nvidia-container-runtime /etc/docker/daemon.json; then
  nvidia-ctk runtime configure --runtime=docker >&2
  if has_systemd; then systemctl try-restart docker.service; fi
fi
if ! is_bake; then modprobe nvidia || say "the driver is not loaded yet; fleet-wait-gpus waits for it"; fi
