"""Git repositories over HTTP for those who know the password: git's own http-backend behind a small server (git-http-backend(1)).

Each request is also a moment at which git is at work somewhere with that password: whose arguments hold it then is noted.
"""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

AUTHOR = ("-c", "user.name=a test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What a task says of where its code is."""

    url: str
    commit: str


@dataclass
class GitServer:
    """One that runs."""

    root: Path
    user: str
    password: str
    port: int = 0
    let_in: int = 0  # requests with the password, and those without or with another
    turned_away: int = 0
    told: list[str] = field(default_factory=list)  # the arguments of processes that held the password meanwhile

    def add(self, name: str, files: Mapping[str, str | bytes]) -> Repository:
        """A new repository of one commit."""
        work = self.root / "work" / name
        for path, content in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(content.encode() if isinstance(content, str) else content)
        _git(work, "init", "-q", "-b", "main")
        _git(work, "add", ".")
        _git(work, *AUTHOR, "commit", "-qm", "one")
        _git(self.root, "clone", "-q", "--bare", str(work), f"served/{name}.git")
        url = f"http://127.0.0.1:{self.port}/{name}.git"
        return Repository(url=url, commit=_git(work, "rev-parse", "HEAD").strip())

    def watch(self) -> None:
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or ())
            if self.password in line and process.pid != os.getpid():
                self.told.append(line)


@contextmanager
def serving(root: Path, user: str, password: str) -> Iterator[GitServer]:
    """Serve what is added, until the end of the block."""
    (root / "served").mkdir(parents=True)
    git = GitServer(root, user, password)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(git))
    server.daemon_threads = True
    git.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield git
    finally:
        server.shutdown()
        server.server_close()


def _handler(git: GitServer) -> type[BaseHTTPRequestHandler]:
    backend = Path(_git(git.root, "--exec-path").strip()) / "git-http-backend"
    key = "Basic " + base64.b64encode(f"{git.user}:{git.password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != key:
                git.turned_away += 1
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="code"')
                self.end_headers()
                return
            git.let_in += 1
            git.watch()
            self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        do_POST = do_GET

        def answer(self, body: bytes) -> None:
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(git.root / "served"),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "REMOTE_USER": git.user,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "CONTENT_LENGTH": str(len(body)),
            }
            done = subprocess.run([backend], input=body, env=environment, capture_output=True, check=False)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _git(place: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout
