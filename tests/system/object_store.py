"""An S3 of the test's own over HTTP (moto), which notes by whose key each request is signed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


@dataclass
class ObjectStore:
    """One that runs."""

    host: str = ""
    keys: list[str] = field(default_factory=list)  # of every request, as it came

    def client(self) -> Any:
        """Of the test itself."""
        url = f"http://{self.host}"
        return boto3.client("s3", "us-east-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test")

    def objects(self, bucket: str) -> dict[str, bytes]:
        found = self.client().list_objects_v2(Bucket=bucket).get("Contents", [])
        return {each["Key"]: self.client().get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Serve, until the end of the block."""
    store = ObjectStore()
    moto = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        signed = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        store.keys.append(signed[1] if signed else "")
        return moto(environ, start_response)

    class Silent(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    store.host = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
