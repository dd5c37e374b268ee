"""The Compute API of Genesis Cloud over real HTTP, as far as fleet uses it, in memory; it can be slow, full, and wrong.

After the documents "Compute API v1" (OpenAPI of api.genesiscloud.com/compute/v1: instances, images, ssh-keys, security-groups,
availability/{region}/instances; pages by `page` and `per_page` with `total_count`; errors as {"code", "message"}) and
developers.genesiscloud.com ("Instances", "Authentication": a bearer token; `destroy_on_shutdown`). Where a document names no code for
something (a sold-out type, a quota), the words here are ours.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.providers.compute_engine import Refused as RefusedByGoogle

Json = dict[str, Any]
TOKEN = "gc-token-0123456789"
TYPES = ("vcpu-4_memory-24g_nvidia-rtx-3090-1", "vcpu-192_memory-1920g_nvidia-h100-sxm5-8", "vcpu-2_memory-4g")


class Refused(RefusedByGoogle):
    """An answer that is an error, in this cloud's words."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, code, message, headers)
        self.body = {"code": code, "message": message}


class GenesisCloud:
    """One account. What a test may turn: see the attributes."""

    def __init__(self) -> None:
        self.instances: dict[str, Json] = {}
        self.bodies: list[Json] = []
        self.sold_out: set[str] = set()
        self.types = list(TYPES)
        self.ubuntus = ["22.04"]
        self.key = "ann-0"  # the first of three
        self.page = 2  # so many a page, whatever is asked for
        self.hidden: set[str] = set()  # ids that the list does not show yet
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda verb, path: None  # may raise Refused
        self.after: Callable[[str, str], None] = lambda verb, path: None  # the call has taken effect
        self.raw: bytes | None = None
        self.raw_status = 200
        self.headers: dict[str, str] = {}
        self.authorization: str | None = None
        self.lock = threading.RLock()
        self.released = threading.Event()

    def hang(self) -> None:
        self.before = lambda verb, path: self.released.wait(30) and None  # type: ignore[func-returns-value]

    def throttle(self) -> None:
        def refuse(verb: str, path: str) -> None:
            raise Refused(429, "too_many_requests", "Too many requests, please try again later.")

        self.before = refuse

    def refuse_credentials(self) -> None:
        def refuse(verb: str, path: str) -> None:
            raise Refused(401, "unauthorized", "The provided token is\nnot valid.")

        self.before = refuse

    def garble(self) -> None:
        self.raw = b'{"instances": [{"id": "'

    def sells(self, kind: str) -> None:
        """This type too, and what `fleet init` begins with: a newer Ubuntu, and a key of this name."""
        self.types.append(kind)
        self.ubuntus.append("24.04")
        self.key = "my-key"

    # --- the API

    def handle(self, verb: str, path: str, query: dict[str, str], body: Json) -> Any:
        self.before(verb, path)
        if self.authorization != f"Bearer {TOKEN}":
            raise Refused(401, "unauthorized", "The provided token is not valid.")
        with self.lock:
            answer = self.route(verb, path.removeprefix("/compute/v1/"), query, body)
        self.after(verb, path)
        return answer

    def route(self, verb: str, path: str, query: dict[str, str], body: Json) -> Any:
        if (verb, path) == ("POST", "instances"):
            return self.create(body)
        if verb == "DELETE" and (match := re.fullmatch(r"instances/([^/]+)", path)):
            if match[1] not in self.instances:
                raise Refused(404, "not_found", "The requested resource was not found.")
            del self.instances[match[1]]
            return 204, None
        if verb == "GET" and (match := re.fullmatch(r"availability/([^/]+)/instances", path)):
            rows = [{"type": kind, "available": kind not in self.sold_out} for kind in self.types]
            return {"availability": {"type": "instances", "region": match[1], "instance_types": rows}}
        if verb == "GET" and path in ("instances", "images", "ssh-keys", "security-groups"):
            return self.listed(path.replace("-", "_"), query)
        raise Refused(404, "not_found", "The requested resource was not found.")

    def create(self, body: Json) -> Any:
        self.bodies.append(body)
        if body["type"] in self.sold_out:
            raise Refused(
                400, "unavailable", f"Instance type {body['type']} is currently not available in {body['region']}."
            )
        if body["image"] not in (*(f"ubuntu:{version}" for version in self.ubuntus), "snap-1"):
            raise Refused(404, "not_found", "Image not found.")
        assert set(body) <= DOCUMENTED, set(body) - DOCUMENTED
        found = {
            "id": str(uuid.uuid4()),
            "name": body["name"],
            "status": "creating",
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        self.instances[found["id"]] = found
        return 201, {"instance": found}

    def listed(self, kind: str, query: dict[str, str]) -> Json:
        rows = {
            "instances": [i for i in self.instances.values() if i["id"] not in self.hidden],
            "images": [
                {
                    "id": "img-1",
                    "slug": "ubuntu",
                    "name": "Ubuntu",
                    "versions": self.ubuntus,
                    "regions": ["NORD-NO-KRS-1"],
                },
                {"id": "snap-1", "slug": None, "name": "fleet baked", "versions": None, "regions": ["EUC-DE-MUC-1"]},
            ],
            "ssh_keys": [{"id": f"key-{n}", "name": f"ann-{n}" if n else self.key} for n in range(3)],
            "security_groups": [{"id": "sg-1", "name": "no-ingress"}],
        }[kind]
        number, size = int(query["page"]), min(self.page, int(query["per_page"]))
        return {
            kind: rows[(number - 1) * size : number * size],
            "total_count": len(rows),
            "page": number,
            "per_page": size,
        }


DOCUMENTED = {  # properties of the body of `POST /instances`
    *("name", "hostname", "type", "image", "reservation_id", "ssh_keys", "volumes", "password", "placement_option"),
    *("security_groups", "is_protected", "destroy_on_shutdown", "public_ipv6", "floating_ip", "region", "billing_type"),
    *("reuse_long_term_subscription", "disk_size", "metadata"),
}
