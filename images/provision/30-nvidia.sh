#!/usr/bin/env bash
# NVIDIA's driver and container toolkit, where there is a GPU. An image that brings its driver keeps it.
. "$(dirname "$0")/lib.sh"

if ! wants_gpu_software; then
  say "no NVIDIA GPU, or none wanted: no driver"
  exit 0
fi
. /etc/os-release
architecture=$(dpkg --print-architecture)

if command -v nvidia-smi >/dev/null; then
  say "there is a driver: $(command -v nvidia-smi)"
elif [ "$ID" = ubuntu ]; then
  branch=$(version_of nvidia driver)
  want "linux-headers-$(uname -r)" "nvidia-headless-$branch-server" "nvidia-utils-$branch-server"
elif [ "$ID" = debian ]; then
  # The driver is not free software: Debian keeps it in parts of its archive that are off.
  for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list; do
    [ -f "$file" ] || continue
    for part in contrib non-free non-free-firmware; do
      sed -i -E "/^Components:.* $part( |\$)/! s/^Components:.*/& $part/; /^deb .* $part( |\$)/! s/^deb .*/& $part/" "$file"
    done
  done
  want "linux-headers-$(uname -r)" nvidia-driver nvidia-smi firmware-misc-nonfree
else
  fail "no driver is known for $ID; take Ubuntu or Debian, or an image that has one"
fi

version=$(version_of nvidia toolkit) repository=$(version_of nvidia toolkit_repository)
if ! is_installed nvidia-container-toolkit; then
  want curl
  key=/usr/share/keyrings/nvidia-container-toolkit.asc
  curl -fsSL --retry 5 --proto '=https' "$repository/gpgkey" -o "$key.part"
  mv "$key.part" "$key"
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
