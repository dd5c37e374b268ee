"""Compute Engine's REST API over real HTTP, as far as fleet uses it, in memory; it can be slow, full, and wrong.

After these documents of Google Cloud: "Compute Engine API v1" (instances.insert with requestId and sourceInstanceTemplate,
regionInstances.bulkInsert, instances.aggregatedList with filter, maxResults and pageToken, instances.delete, instances.getSerialPortOutput,
zoneOperations.get, machineTypes.get, regions.get), "Handling API responses" (Operation: status, error.errors[].code, httpErrorStatusCode),
"Troubleshooting bulk VM creation" and "Resource availability errors" (reasons and codes), "Resource Manager API v1"
(projects.testIamPermissions), "Cloud Billing Catalog API v1" (services.skus.list; the SKUs are tests.providers.price_list). Errors are {"error": {"code", "message", "errors": [{"reason", "message"}]}}.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

Json = dict[str, Any]
TYPES: dict[str, Json] = {
    "e2-medium": {"guestCpus": 2, "memoryMb": 4096, "isSharedCpu": True},
    "a2-ultragpu-1g": {
        "description": "Accelerator Optimized: 1 NVIDIA A100 80GB GPU, 12 vCPUs, 170GB RAM, 1 local SSD",
        "guestCpus": 12,
        "memoryMb": 174080,
        "accelerators": [{"guestAcceleratorType": "nvidia-a100-80gb", "guestAcceleratorCount": 1}],
    },
    "a3-highgpu-8g": {
        "guestCpus": 208,
        "memoryMb": 1916928,
        "accelerators": [{"guestAcceleratorType": "nvidia-h100-80gb", "guestAcceleratorCount": 8}],
        "bundledLocalSsds": {"defaultInterface": "NVME", "partitionCount": 16},
    },
    "a3-edgegpu-8g": {
        "guestCpus": 208,
        "memoryMb": 1916928,
        "accelerators": [{"guestAcceleratorType": "nvidia-h100-80gb", "guestAcceleratorCount": 8}],
    },
    "m3-ultramem-32": {"guestCpus": 32, "memoryMb": 999424},
    "n1-standard-8": {"guestCpus": 8, "memoryMb": 30720},
    "g2-standard-4": {
        "guestCpus": 4,
        "memoryMb": 16384,
        "accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}],
    },
    "g2-standard-24": {
        "guestCpus": 24,
        "memoryMb": 98304,
        "accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 2}],
    },
}
ZONES = ("us-central1-a", "us-central1-b", "us-east1-c")


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        detail = [{"reason": reason, "domain": "global", "message": message}]
        self.body = {"error": {"code": status, "message": message, "errors": detail}}


class ComputeEngine:
    """All projects. What a test may turn: see the attributes."""

    def __init__(self) -> None:
        self.instances: dict[tuple[str, str, str], Json] = {}  # (project, zone, name)
        self.operations: dict[str, Json] = {}
        self.requests: dict[str, str] = {}  # requestId -> operation
        self.calls: list[tuple[str, str]] = []  # (verb, path)
        self.bodies: list[Json] = []  # of insert and bulkInsert
        self.queries: list[dict[str, str]] = []
        self.consoles: dict[str, str] = {}  # what a machine wrote to its first serial port, by its name
        self.l4s = 8.0  # the quota of GPUs that types of g2 have built in
        self.page = 3  # so many machines a page, whatever is asked for
        self.operation_s = 0.0  # so long until an operation is DONE
        self.fails: Callable[[str, Json], tuple[str, str] | None] = lambda zone, body: (
            None
        )  # (code, message) of an insert
        self.permissions: set[str] | None = None  # those that we have; None: all
        self.price_list: list[Json] = []  # SKUs of Compute Engine
        self.before: Callable[[str, str], None] = lambda verb, path: None  # may raise Refused
        self.raw: bytes | None = None  # answered to everything, instead
        self.raw_status = 200
        self.headers: dict[str, str] = {}
        self.lock = threading.RLock()
        self.released = threading.Event()

    # --- what a contract test asks for (`tests.providers.contract.Trouble`)

    def hang(self) -> None:
        self.before = lambda verb, path: self.released.wait(30) and None  # type: ignore[func-returns-value]

    def throttle(self) -> None:
        def refuse(verb: str, path: str) -> None:
            raise Refused(
                403, "rateLimitExceeded", "Quota exceeded for quota group 'default' and limit 'Queries per minute'."
            )

        self.before = refuse

    def refuse_credentials(self) -> None:
        def refuse(verb: str, path: str) -> None:
            raise Refused(
                401, "authError", "Request had invalid authentication credentials.\nExpected OAuth 2 access token."
            )

        self.before = refuse

    def garble(self) -> None:
        self.raw = b'{"items": {"zones/us-central1-a": {"inst'

    # --- the API

    def handle(self, verb: str, path: str, query: dict[str, str], body: Json) -> Json:
        self.before(verb, path)
        with self.lock:
            for pattern, method in ROUTES[verb].items():
                if match := re.fullmatch(pattern, path):
                    found: Json = getattr(self, method)(query=query, body=body, **match.groupdict())
                    return found
        raise Refused(404, "notFound", f"The requested URL {path} was not found on this server.")

    def insert(self, project: str, zone: str, query: dict[str, str], body: Json) -> Json:
        self.bodies.append(body)
        self.queries.append(query)
        if known := self.requests.get(query.get("requestId", "")):
            return self.shown(known)
        if zone not in ZONES:
            raise Refused(404, "notFound", f"The resource 'projects/{project}/zones/{zone}' was not found")
        kind = str(body["machineType"]).rpartition("/")[2]
        if kind not in TYPES:
            message = f"Invalid value for field 'resource.machineType': '{body['machineType']}'. The referenced resource does not exist."
            raise Refused(400, "invalid", message)
        if (project, zone, body["name"]) in self.instances:
            message = f"The resource 'projects/{project}/zones/{zone}/instances/{body['name']}' already exists"
            raise Refused(409, "alreadyExists", message)
        return self.begin(project, f"zones/{zone}", query, zone, body["name"], body)

    def bulk_insert(self, project: str, region: str, query: dict[str, str], body: Json) -> Json:
        self.bodies.append(body)
        self.queries.append(query)
        if known := self.requests.get(query.get("requestId", "")):
            return self.shown(known)
        names = list(body["perInstanceProperties"])
        assert int(body["count"]) == int(body["minCount"]) == len(names)
        zones = [zone for zone in ZONES if zone.startswith(f"{region}-")]
        return self.begin(project, f"regions/{region}", query, zones[-1], names[0], body["instanceProperties"])

    def begin(self, project: str, scope: str, query: dict[str, str], zone: str, name: str, body: Json) -> Json:
        operation = f"operation-{len(self.operations)}"
        failure = self.fails(zone, body)
        self.requests[query.get("requestId", operation)] = operation
        self.operations[operation] = {
            "kind": "compute#operation",
            "name": operation,
            "scope": scope,
            "done_at": time.monotonic() + self.operation_s,
            "failure": failure,
            "key": (project, zone, name),
        }
        if not failure or self.operation_s:
            self.instances[project, zone, name] = {
                **body,
                "name": name,
                "zone": f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{zone}",
                "status": "PROVISIONING",
                "creationTimestamp": datetime.now(UTC).astimezone().isoformat(timespec="milliseconds"),
                "id": str(10**18 + len(self.operations)),
            }
        return self.shown(operation)

    def shown(self, name: str) -> Json:
        """An operation as it is now; one that is done has done what it does."""
        found = self.operations[name]
        shown: Json = {"kind": found["kind"], "name": name, "status": "RUNNING", "progress": 0}
        if time.monotonic() < found["done_at"]:
            return shown
        ended = datetime.now(UTC) - timedelta(seconds=time.monotonic() - found["done_at"])
        shown |= {"status": "DONE", "progress": 100, "endTime": ended.isoformat(timespec="milliseconds")}
        if found["failure"]:
            code, message = found["failure"]
            shown["error"] = {"errors": [{"code": code, "message": message}]}
            shown |= {"httpErrorStatusCode": 503, "httpErrorMessage": "SERVICE UNAVAILABLE"}
            self.instances.pop(found["key"], None)
        elif found["key"] in self.instances and self.instances[found["key"]]["status"] == "PROVISIONING":
            self.instances[found["key"]]["status"] = "RUNNING"
        return shown

    def operation(self, project: str, place: str, name: str, query: dict[str, str], body: Json) -> Json:
        if name not in self.operations or self.operations[name]["scope"] != place:
            raise Refused(404, "notFound", f"The resource '{place}/operations/{name}' was not found")
        return self.shown(name)

    def get(self, project: str, zone: str, name: str, query: dict[str, str], body: Json) -> Json:
        if (project, zone, name) not in self.instances:
            raise Refused(
                404, "notFound", f"The resource 'projects/{project}/zones/{zone}/instances/{name}' was not found"
            )
        return self.instances[project, zone, name]

    def serial_port(self, project: str, zone: str, name: str, query: dict[str, str], body: Json) -> Json:
        """The last bytes where `start` is negative, as the document says."""
        self.get(project, zone, name, query, body)
        said = self.consoles.get(name, "").encode()
        start = int(query.get("start", "0"))
        first = max(len(said) + start, 0) if start < 0 else start
        contents = said[first : first + 1024 * 1024].decode(errors="replace")
        return {
            "kind": "compute#serialPortOutput",
            "contents": contents,
            "start": str(first),
            "next": str(len(said)),
        }

    def delete(self, project: str, zone: str, name: str, query: dict[str, str], body: Json) -> Json:
        self.get(project, zone, name, query, body)
        del self.instances[project, zone, name]
        return {"kind": "compute#operation", "name": "operation-delete", "status": "RUNNING"}

    def aggregated(self, project: str, query: dict[str, str], body: Json) -> Json:
        for name in list(self.operations):
            self.shown(name)  # what is due has happened
        wanted = re.fullmatch(r"labels\.([\w-]+)=([\w-]+)", query["filter"])
        assert wanted, query
        ours = [
            (zone, each)
            for (where, zone, _), each in sorted(self.instances.items(), key=lambda pair: pair[0])
            if where == project and each.get("labels", {}).get(wanted[1]) == wanted[2]
        ]
        start = int(query.get("pageToken", "0"))
        page = ours[start : start + min(self.page, int(query["maxResults"]))]
        nothing = {"warning": {"code": "NO_RESULTS_ON_PAGE", "message": "There are no results on this page."}}
        items: Json = {f"zones/{zone}": nothing for zone in ZONES}
        for zone in {zone for zone, _ in page}:
            items[f"zones/{zone}"] = {"instances": [each for where, each in page if where == zone]}
        more = {"nextPageToken": str(start + len(page))} if start + len(page) < len(ours) else {}
        return {"kind": "compute#instanceAggregatedList", "items": items, **more}

    def machine_type(self, project: str, zone: str, name: str, query: dict[str, str], body: Json) -> Json:
        if name not in TYPES or zone not in ZONES:
            raise Refused(
                404, "notFound", f"The resource 'projects/{project}/zones/{zone}/machineTypes/{name}' was not found"
            )
        return {"name": name, **TYPES[name]}

    def machine_types(self, project: str, query: dict[str, str], body: Json) -> Json:
        name = query["filter"].removeprefix("name=")
        found = [{"name": name, **TYPES[name]}] if name in TYPES else []
        return {"items": {f"zones/{zone}": {"machineTypes": found} if found else {} for zone in ZONES}}

    def accelerator(self, project: str, zone: str, name: str, query: dict[str, str], body: Json) -> Json:
        if name != "nvidia-tesla-t4" or zone == "us-east1-c":
            raise Refused(404, "notFound", "The resource was not found")
        return {"name": name, "maximumCardsPerInstance": 4}

    def image(self, project: str, name: str, query: dict[str, str], body: Json) -> Json:
        ubuntu = ("ubuntu-os-cloud", "family/ubuntu-2404-lts-amd64")
        if (project, name) not in (("lab-1", "fleet-1"), ("debian-cloud", "family/debian-12"), ubuntu):
            raise Refused(404, "notFound", f"The resource 'projects/{project}/global/images/{name}' was not found")
        return {"name": name.rpartition("/")[2], "status": "READY"}

    def template(self, project: str, name: str, query: dict[str, str], body: Json) -> Json:
        return {"name": name}

    def subnet(self, project: str, region: str, name: str, query: dict[str, str], body: Json) -> Json:
        if name != "gpus":
            raise Refused(
                404, "notFound", f"The resource 'projects/{project}/regions/{region}/subnetworks/{name}' was not found"
            )
        return {"name": name, "ipCidrRange": "10.0.0.0/20"}

    def region(self, project: str, region: str, query: dict[str, str], body: Json) -> Json:
        rows = [("CPUS", 72.0, 24.0), ("NVIDIA_T4_GPUS", 4.0, 4.0), ("PREEMPTIBLE_NVIDIA_T4_GPUS", 8.0, 0.0)]
        rows.append(("NVIDIA_L4_GPUS", self.l4s, 0.0))
        return {"name": region, "quotas": [{"metric": m, "limit": limit, "usage": used} for m, limit, used in rows]}

    def test_permissions(self, project: str, query: dict[str, str], body: Json) -> Json:
        asked = body["permissions"]
        return {"permissions": [p for p in asked if self.permissions is None or p in self.permissions]}

    def skus(self, query: dict[str, str], body: Json) -> Json:
        """Pages, with an empty nextPageToken on the last as Google has it."""
        assert query["currencyCode"] == "USD"
        self.queries.append(query)
        start = int(query.get("pageToken", "page-0").removeprefix("page-"))
        end = start + min(self.page, int(query["pageSize"]))
        token = f"page-{end}" if end < len(self.price_list) else ""
        return {"skus": self.price_list[start:end], "nextPageToken": token}


PROJECT = r"/compute/v1/projects/(?P<project>[^/]+)"
ROUTES = {
    "POST": {
        PROJECT + r"/zones/(?P<zone>[^/]+)/instances": "insert",
        PROJECT + r"/regions/(?P<region>[^/]+)/instances/bulkInsert": "bulk_insert",
        r"/v1/projects/(?P<project>[^/:]+):testIamPermissions": "test_permissions",
    },
    "DELETE": {PROJECT + r"/zones/(?P<zone>[^/]+)/instances/(?P<name>[^/]+)": "delete"},
    "GET": {
        r"/v1/services/6F81-5844-456A/skus": "skus",
        PROJECT + r"/aggregated/instances": "aggregated",
        PROJECT + r"/aggregated/machineTypes": "machine_types",
        PROJECT + r"/zones/(?P<zone>[^/]+)/instances/(?P<name>[^/]+)": "get",
        PROJECT + r"/zones/(?P<zone>[^/]+)/instances/(?P<name>[^/]+)/serialPort": "serial_port",
        PROJECT + r"/zones/(?P<zone>[^/]+)/machineTypes/(?P<name>[^/]+)": "machine_type",
        PROJECT + r"/zones/(?P<zone>[^/]+)/acceleratorTypes/(?P<name>[^/]+)": "accelerator",
        PROJECT + r"/(?P<place>(?:zones|regions)/[^/]+)/operations/(?P<name>[^/]+)": "operation",
        PROJECT + r"/global/images/(?P<name>.+)": "image",
        PROJECT + r"/global/instanceTemplates/(?P<name>[^/]+)": "template",
        PROJECT + r"/regions/(?P<region>[^/]+)/subnetworks/(?P<name>[^/]+)": "subnet",
        PROJECT + r"/regions/(?P<region>[^/]+)": "region",
    },
}


@contextmanager
def served(cloud: Any) -> Iterator[str]:
    """The URL at which this cloud answers: anything with `handle`, `calls`, `raw`, `raw_status`, `headers` and `released`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer_all(self) -> None:
            asked = urlparse(self.path)
            query = {key: values[0] for key, values in parse_qs(asked.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            path = unquote(asked.path)
            cloud.calls.append((self.command, path))
            cloud.authorization = self.headers.get("Authorization")
            status, said, headers = 200, b"", dict(cloud.headers)
            try:
                data = cloud.handle(self.command, path, query, body)
                status, data = data if isinstance(data, tuple) else (200, data)
                said = b"" if status == 204 else json.dumps(data).encode()
            except Refused as refused:
                status, said = refused.status, json.dumps(refused.body).encode()
                headers |= refused.headers
            if cloud.raw is not None:
                status, said = cloud.raw_status, cloud.raw
            try:
                self.send_response_only(status)
                for name, value in {"Date": self.date_time_string(), **headers}.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # whoever asked has given up

        do_GET = do_POST = do_DELETE = answer_all

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        cloud.released.set()
        server.shutdown()
        server.server_close()


def date(off_by: timedelta) -> str:
    """The Date header of a cloud whose clock is off by so much."""
    return (datetime.now(UTC) + off_by).strftime("%a, %d %b %Y %H:%M:%S GMT")
