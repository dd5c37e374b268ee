"""One order as the body of `POST instances`, and the name that stands in place of tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleet.errors import BadRequest
from fleet.providers.base import LaunchOrder
from fleet.providers.genesis.api import Api
from fleet.providers.genesis.settings import GenesisSettings

# How the machine is found again, how it ends, and how it finds its dispatcher: none of it is anybody else's.
OURS = ("name", "destroy_on_shutdown", "metadata")
LARGEST_SCRIPT = 64 * 1024  # what metadata.startup_script takes


def name_of(order: LaunchOrder) -> str:
    """Neither a cluster nor an intent has a `_` in it, so it can be read again."""
    return f"fleet_{order.cluster}_{order.instance}_{order.resource.name}"


def who(name: str) -> tuple[str, str, str] | None:
    """(cluster, instance, resource) of a machine's name; None: it is no machine of any fleet."""
    parts = name.split("_", 3)
    return (parts[1], parts[2], parts[3]) if len(parts) == 4 and parts[0] == "fleet" and all(parts) else None


class Names:
    """Ids of keys and groups, by name. Asked for once; a name that is not among them is asked for again."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, dict[str, str]] = {}

    def ids(self, kind: str, wanted: tuple[str, ...], key: str) -> list[str]:
        """`kind`: "ssh_keys" or "security_groups".

        Raises:
            BadRequest: there is none of this name or id.
        """
        if not wanted:
            return []
        if not set(wanted) <= self._known.get(kind, {}).keys():
            rows = self._api.everything(kind)
            self._known[kind] = {str(r["id"]): str(r["id"]) for r in rows} | {
                str(r.get("name")): str(r["id"]) for r in rows
            }
        missing = [name for name in wanted if name not in self._known[kind]]
        if missing:
            raise BadRequest(f"{key}: Genesis Cloud has no {missing[0][:60]}; make it in the console, or mend the name")
        return [self._known[kind][name] for name in wanted]


def body_of(order: LaunchOrder, said: GenesisSettings, names: Names, user_data: str) -> dict[str, Any]:
    """
    Raises:
        BadRequest: the script is too long, a key or group is not there.
        ProviderError: keys and groups cannot be looked up.
    """
    if len(user_data.encode()) > LARGEST_SCRIPT:
        raise BadRequest(
            f"resources.{order.resource.name}: the first-boot script is longer than 64 KiB; shorten init_script"
        )
    path = f"resources.{order.resource.name}"
    body: dict[str, Any] = {
        "name": name_of(order),
        "hostname": f"fleet-{order.instance}",
        "type": order.offer.type,
        "image": said.image,
        "region": order.offer.region,
        "is_protected": False,
        "destroy_on_shutdown": True,  # a machine that is only off would be paid for
        "metadata": {"startup_script": user_data},
    }
    if keys := names.ids("ssh_keys", said.ssh_keys, f"{path}.ssh_keys"):
        body["ssh_keys"] = keys
    if groups := names.ids("security_groups", said.security_groups, f"{path}.security_groups"):
        body["security_groups"] = groups
    optional: Mapping[str, object] = {
        "volumes": list(said.volumes) or None,
        "disk_size": said.disk_gib,
        "placement_option": said.placement,
        "reservation_id": said.reservation,
    }
    body |= {key: value for key, value in optional.items() if value is not None}
    return body | {key: value for key, value in said.launch_spec.items() if key not in OURS}
