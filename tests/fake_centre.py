"""A dispatcher's edge API over real HTTP, small: it lets one machine in, remembers heartbeats, and gives the orders it is told."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from fleet.model import Reason
from fleet.wire import Enroll, Enrolled, Heartbeat, Orders, from_data, to_data


class FakeCentre:
    """One machine's dispatcher. `enrolled` is what it will be told; `join_token` what it must bring."""

    def __init__(self, enrolled: Enrolled, join_token: str = "join") -> None:
        self.enrolled, self.join_token = enrolled, join_token
        self.enrolls: list[Enroll] = []
        self.heartbeats: list[Heartbeat] = []
        self.drain: Reason | None = None
        self.end: Reason | None = None
        self.is_refusing = False
        self.is_down = False
        self._hint = 0
        self._changed = threading.Condition()
        centre = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                verb = centre.enroll if self.path.endswith("/enroll") else centre.heartbeat
                self.answer(*verb(body, self.headers.get("Authorization")))

            def do_GET(self) -> None:
                asked = parse_qs(urlparse(self.path).query)
                self.answer(*centre.hint(int(asked["after"][0]), float(asked["wait_s"][0])))

            def answer(self, status: int, data: object) -> None:
                content = json.dumps(data).encode()
                head = (
                    f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                self.wfile.write(head.encode() + content)  # in one packet

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # a supervisor that was killed in mid-question

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def enroll(self, body: object, _: str | None) -> tuple[int, object]:
        enroll = from_data(Enroll, body)
        self.enrolls.append(enroll)
        if self.is_down:
            return 503, {"error": "starting"}
        if enroll.join_token != self.join_token or enroll.instance != self.enrolled.instance:
            return 403, {"error": "this machine is not expected"}
        return 200, to_data(self.enrolled)

    def heartbeat(self, body: object, authorization: str | None) -> tuple[int, object]:
        if self.is_down:
            return 503, {"error": "down"}
        if self.is_refusing or authorization != f"Bearer {self.enrolled.token}":
            return 401, {"error": "unknown token"}
        heartbeat = from_data(Heartbeat, body)
        with self._changed:
            self.heartbeats.append(heartbeat)
            self._changed.notify_all()
        seen = tuple(run.task for run in heartbeat.runs if run.ended_at)
        return 200, to_data(
            Orders(
                drain=self.drain,
                end=self.end,
                queues=self.enrolled.queues,
                idle_timeout=self.enrolled.idle_timeout,
                runs_seen=seen,
                hint=self._hint,
            )
        )

    def hint(self, after: int, wait_s: float) -> tuple[int, object]:
        if self.is_down:
            return 503, {"error": "down"}
        with self._changed:
            self._changed.wait_for(lambda: self._hint > after, wait_s)
            return 200, {"seq": self._hint}

    def give_hint(self) -> None:
        with self._changed:
            self._hint += 1
            self._changed.notify_all()

    @property
    def runs(self) -> dict[str, list]:
        """Ended attempts by task, in the order they were told."""
        ended: dict[str, list] = {}
        for heartbeat in self.heartbeats:
            for run in heartbeat.runs:
                known = ended.setdefault(run.task, [])
                if run.ended_at and run not in known:
                    known.append(run)
        return ended

    @property
    def goodbye(self) -> Heartbeat | None:
        return next((h for h in self.heartbeats if h.is_ending), None)
