"""The cloud's own side: machines by an idempotency token, what they are told of themselves, and an API for providers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.system.box.ground import Ground
from tests.system.box.imds import Metadata, MetadataService
from tests.system.box.machine import Vm
from tests.waiting import PATIENCE

ENDS_WITHIN_S = 20.0  # after the power button; then the plug is pulled, as clouds do


@dataclass
class Rented:
    """A machine that was launched."""

    vm: Vm
    metadata: Metadata
    tags: dict[str, str]
    launched_at: float
    terminated_at: float | None = field(default=None)


class Cloud:
    """Its API is plain JSON on `url`, a loopback address of the box's network."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.rented: dict[str, Rented] = {}  # by token; all there ever were
        self.keeps_disks = False  # of the next machines: they can reboot
        self._by_address: dict[str, Metadata] = {}
        self._lock = threading.Lock()
        with ground.network.entered():
            self._metadata = MetadataService(self._by_address)
            self._server = _api(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._metadata.close()

    def end_all(self) -> None:
        """Of a test: whatever still runs is lost."""
        for each in self.rented.values():
            if each.vm.process.poll() is None:
                each.vm.lose()
                each.vm.process.wait(10 * PATIENCE)

    def launch(self, token: str, tags: dict[str, str], user_data: str) -> str:
        with self._lock:
            if token not in self.rented:
                number = len(self.rented)
                name, address = f"i-{number:06x}", self.ground.network.address(number)
                metadata = self._by_address[address] = Metadata(name, address, user_data)
                vm = Vm(self.ground, name, address, self.keeps_disks)
                self.rented[token] = Rented(vm, metadata, tags, time.time())
            return self.rented[token].vm.name

    def running(self) -> list[dict[str, Any]]:
        return [
            {"id": each.vm.name, "tags": each.tags, "launched_at": each.launched_at}
            for each in list(self.rented.values())
            if each.vm.is_running
        ]

    def terminate(self, ids: list[str]) -> None:
        for each in list(self.rented.values()):
            if each.vm.name in ids and each.vm.is_running:
                if each.terminated_at is None:
                    each.terminated_at = time.time()
                    each.vm.press_power_button()
                elif time.time() - each.terminated_at > ENDS_WITHIN_S:
                    each.vm.lose()


def _api(cloud: Cloud) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            verbs: dict[str, Callable[..., object]]
            verbs = {"/launch": cloud.launch, "/list": cloud.running, "/terminate": cloud.terminate}
            content = json.dumps(verbs[self.path](**asked)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server
