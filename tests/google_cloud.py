"""A metadata server and a Compute Engine API over real HTTP, as far as an instance that deletes itself needs them.

After cloud.google.com/compute/docs/metadata/querying-metadata (a request without `Metadata-Flavor: Google` is refused with 403,
the zone is a path with the project's number), .../access/authenticate-workloads (the token's JSON), and the REST reference of
`instances.delete` (an Operation in JSON; errors as {"error": {"code", "message", "errors"}}).
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

INSTANCE = "/compute/v1/projects/lab-1/zones/us-central1-a/instances/fleet-i1"
METADATA = {
    "instance/name": "fleet-i1",
    "instance/zone": "projects/1234567890/zones/us-central1-a",
    "project/project-id": "lab-1",
}


class GoogleCloud:
    """One instance. `failures`: statuses that the next deletions are answered with; `has_account`: it has a service account."""

    def __init__(self, failures: tuple[int, ...] = (), has_account: bool = True) -> None:
        self.failures, self.has_account = list(failures), has_account
        self.deleted: list[str] = []
        self.asked = 0
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/computeMetadata/v1/")
                if self.headers.get("Metadata-Flavor") != "Google":
                    return self.answer(403, "Missing Metadata-Flavor:Google header.")
                if path == "instance/service-accounts/default/token" and cloud.has_account:
                    token = {"access_token": "ya29.own", "expires_in": 3599, "token_type": "Bearer"}
                    return self.answer(200, json.dumps(token))
                return self.answer(200, METADATA[path]) if path in METADATA else self.answer(404, "not found")

            def do_DELETE(self) -> None:
                cloud.asked += 1
                if self.headers.get("Authorization") != "Bearer ya29.own":
                    return self.refuse(401, "Request had invalid authentication credentials.")
                if cloud.failures:
                    return self.refuse(cloud.failures.pop(0), "Required 'compute.instances.delete' permission")
                cloud.deleted.append(self.path)
                return self.answer(200, json.dumps({"kind": "compute#operation", "status": "RUNNING"}))

            def refuse(self, status: int, message: str) -> None:
                self.answer(status, json.dumps({"error": {"code": status, "message": message, "errors": []}}))

            def answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        host = f"127.0.0.1:{self._server.server_port}"
        self.environment = {"GCE_METADATA_HOST": host, "FLEET_GCE_COMPUTE_URL": f"http://{host}/compute/v1"}
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
