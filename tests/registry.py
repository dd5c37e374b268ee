"""A registry of container images over HTTP on loopback, which `docker pull` asks without TLS (127.0.0.0/8 is such a place for it).

After "Docker Registry HTTP API V2" and "Image Manifest V 2, Schema 2": `/v2/`, manifests by tag and digest, blobs by digest. It can ask
for a name and a password ("Authentication": Basic), and be away.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Registry:
    """What it holds, and what it was asked."""

    def __init__(self) -> None:
        self.manifests: dict[tuple[str, str], bytes] = {}  # by repository and tag or digest
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.login: tuple[str, str] | None = None  # that everybody needs
        self.address = ""

    def put(self, repository: str, tag: str, layer: bytes, environment: Mapping[str, str] | None = None) -> str:
        """An image of one layer (a tar); its whole name."""
        packed = gzip.compress(layer, mtime=0)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"{name}={value}" for name, value in (environment or {}).items()]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created": "2026-01-01T00:00:00Z"}],
        }
        about = json.dumps(config).encode()
        self.blobs |= {digest(packed): packed, digest(about): about}
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, "size": len(about), "digest": digest(about)},
                "layers": [{"mediaType": LAYER, "size": len(packed), "digest": digest(packed)}],
            }
        ).encode()
        self.manifests |= {(repository, tag): manifest, (repository, digest(manifest)): manifest}
        return f"{self.address}/{repository}:{tag}"

    def found(self, path: str) -> tuple[str, bytes] | None:
        """Its media type and bytes."""
        if path == "/v2/":
            return "application/json", b"{}"
        repository, _, rest = path.removeprefix("/v2/").partition("/manifests/")
        if rest and (manifest := self.manifests.get((repository, rest))):
            return MANIFEST, manifest
        blob = self.blobs.get(path.rpartition("/blobs/")[2])
        return ("application/octet-stream", blob) if blob else None

    def lets_in(self, authorization: str | None) -> bool:
        if self.login is None:
            return True
        return authorization == "Basic " + base64.b64encode(":".join(self.login).encode()).decode()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def served(registry: Registry) -> Iterator[Registry]:
    """It listens, and knows its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.asked.append(f"{self.command} {self.path}")
            if not registry.lets_in(self.headers.get("Authorization")):
                return self.answer(
                    401, "application/json", refusal("UNAUTHORIZED"), {"WWW-Authenticate": 'Basic realm="lab"'}
                )
            found = registry.found(self.path)
            if found is None:
                return self.answer(404, "application/json", refusal("MANIFEST_UNKNOWN"), {})
            kind, data = found
            return self.answer(200, kind, data, {"Docker-Content-Digest": digest(data)})

        do_HEAD = do_GET

        def answer(self, status: int, kind: str, data: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            given = {"Docker-Distribution-API-Version": "registry/2.0", "Content-Type": kind, **headers}
            for name, value in {**given, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield registry
    server.shutdown()
    server.server_close()


def refusal(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}).encode()
