"""The user-data of an image that holds fleet: where the centre is and the one-time token, then the supervisor starts."""

from __future__ import annotations

from fleet.providers.base import LaunchOrder


def user_data(order: LaunchOrder) -> str:
    boot = order.first_boot
    told = {
        "FLEET_CENTRE_URL": boot.centre_url,
        "FLEET_INSTANCE": order.instance,
        "FLEET_JOIN_TOKEN": boot.join_token,
    }
    if boot.certificate_sha256:
        told["FLEET_CENTRE_CERT_SHA256"] = boot.certificate_sha256
    lines = "".join(f"      {name}={value}\n" for name, value in told.items())
    file = f"write_files:\n  - path: /etc/fleet/supervise.env\n    permissions: '0600'\n    content: |\n{lines}"
    return f"#cloud-config\n{file}runcmd:\n  - [systemctl, start, --no-block, fleet-supervise.service]\n"
