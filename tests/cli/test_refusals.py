"""Bad input ends in one clear line and exit code 1, wrong usage in 2; never in a traceback."""

import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.web.operator import LONGEST_DRAIN_S
from tests.cli.running import Shell

FLEET_FILE = """\
cluster: c
listen: 127.0.0.1:0
resources:
  gpu: {provider: local, gpus: 4}
queues:
  train: {resources: [gpu], gpus: 1}
"""
READING = (["status"], ["events"], ["cost"], ["explain", "aa"], ["drain", "--all"])


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Some other program that speaks HTTP; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("command", READING)
def test_no_dispatcher(shell: Shell, command: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        said = shell.refusal(*command, "--url", url)
    assert said.startswith(f"fleet: no dispatcher answers at {url} (Connection refused); start one with")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"hello": 1}'),
        (200, b"[1]"),
        (200, b"null"),
        (200, b"<html>"),
        (404, b'{"error": {"a": 1}}'),
        (500, b""),
    ],
)
def test_another_program_there(shell: Shell, status: int, body: bytes) -> None:
    with answering(status, body) as url:
        for command in READING[:2]:
            assert "not as a dispatcher does" in shell.refusal(*command, "--url", url)


def test_https_to_http(shell: Shell) -> None:
    with answering(200, b"{}") as url:
        assert "try http" in shell.refusal("status", "--url", url.replace("http:", "https:"))


@pytest.mark.parametrize("url", ["ftp://x", "http://127.0.0.1:99999", "127.0.0.1:abc", "http://[::1", "http://"])
def test_no_address(shell: Shell, url: str) -> None:
    assert "is not the address of a dispatcher" in shell.refusal("status", "--url", url)


def test_a_fleet_file_that_was_named_and_is_not_there(shell: Shell) -> None:
    assert "No such file" in shell.refusal("status", "-c", "nope.yaml")
    assert "No such file" in shell.refusal("status", FLEET_CONFIG="nope.yaml")
    for command in (["status"], ["config", "check"]):
        assert "Is a directory" not in shell.refusal(*command, FLEET_CONFIG="")


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 201])
def test_keys_of_the_server_are_somebody_s(shell: Shell, name: str) -> None:
    assert "cannot be a user's name" in shell.refusal("server", "credentials", "--new", name)


def test_several_dispatchers_here(shell: Shell) -> None:
    import os

    for name in ("one", "two"):
        state = shell.place / "home" / name
        state.mkdir(parents=True)
        (state / "centre.json").write_text(json.dumps({"url": f"http://127.0.0.1:{name}", "pid": os.getpid()}))
    assert "choose one with --url" in shell.refusal("status")


def test_a_queue_that_no_resource_can_serve(shell: Shell) -> None:
    (shell.place / "fleet.yaml").write_text(FLEET_FILE.replace("gpus: 1}", "gpus: 8}"))
    said = shell.refusal("config", "check")
    assert said == "fleet: fleet.yaml: queues.train: needs 8 GPUs; the largest of its resources (gpu) has 4"


def test_a_provider_that_is_not_in_this_version_is_found_by_config_check(shell: Shell) -> None:
    text = FLEET_FILE.replace("{provider: local, gpus: 4}", "{provider: no-such, x: 1}")
    (shell.place / "fleet.yaml").write_text(text)
    assert "no-such" in shell.refusal("config", "check")


def test_a_fleet_file_without_an_end_is_not_read_to_it(shell: Shell) -> None:
    assert "are no fleet file" in shell.refusal("config", "check", "-c", "/dev/zero")
    assert "are no settings of ClearML's" in shell.refusal("config", "import", "/dev/zero")


@pytest.mark.parametrize("path", ["nowhere/x.yaml", "."])
def test_init_where_nothing_can_be_written_leaves_nothing(shell: Shell, path: str) -> None:
    shell.refusal("init", path)
    assert list(shell.place.iterdir()) == []


def test_init_replaces_only_when_told(shell: Shell) -> None:
    assert shell.fleet("init").returncode == 0
    assert "--force" in shell.refusal("init")
    assert shell.fleet("init", "--force").returncode == 0


def test_an_address_that_is_another_machine_s_is_none_to_listen_on(shell: Shell) -> None:
    (shell.place / "fleet.yaml").write_text(FLEET_FILE.replace("127.0.0.1:0", "198.51.100.7:8765"))
    assert shell.refusal("dispatch").startswith(
        "fleet: listen: 198.51.100.7 is no address of this machine; `ip address`"
    )


def test_a_state_directory_that_cannot_be_one(shell: Shell) -> None:
    (shell.place / "fleet.yaml").write_text(FLEET_FILE)
    (shell.place / "home").write_text("a file")
    assert "set FLEET_HOME" in shell.refusal("dispatch")
    assert "set FLEET_HOME" in shell.refusal("dispatch", FLEET_HOME="/proc/nowhere")


@pytest.mark.parametrize("name", ["join_secret", "credentials.json", "server.db", "fleet.db"])
def test_a_damaged_state_directory(shell: Shell, name: str) -> None:
    (shell.place / "fleet.yaml").write_text(FLEET_FILE)
    state = shell.place / "home" / "c"
    state.mkdir(parents=True)
    (state / name).write_text('{"not": "what it should be"}' * 200)
    said = shell.refusal("dispatch")
    assert str(state / name) in said
    assert not (state / "centre.json").exists()


def test_a_port_that_is_taken(shell: Shell) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (shell.place / "fleet.yaml").write_text(FLEET_FILE.replace(":0", f":{taken.getsockname()[1]}"))
        assert "is taken" in shell.refusal("dispatch")
        assert "is taken" in shell.refusal("server")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "train", "--gpus", "abc", "x.py"], "a number of GPUs is"),
        (["submit", "train", "--gpu-memory", "-3", "x.py"], "a number of GiB"),
        (["submit", "train", "--nmae", "abc", "x.py"], "--nmae"),
        (["submit", "train"], "SCRIPT"),
        (["drain"], "name instances, or give --all"),
        (["drain", "--all", "x"], "name instances, or give --all"),
        (["drain", "x", "--within", "soon"], "a duration has a unit"),
        (["drain", "x", "--within", f"{LONGEST_DRAIN_S + 1}s"], "at most 30d"),
        (["statsu"], "status"),
        (["events", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_2(shell: Shell, arguments: list[str], words: str) -> None:
    (shell.place / "x.py").write_text("print(1)")
    done = shell.fleet(*arguments, FLEET_URL="http://127.0.0.1:1")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert words in done.stderr


def test_a_task_name_that_the_server_would_refuse(shell: Shell) -> None:
    server = {"CLEARML_API_HOST": "http://127.0.0.1:1", "CLEARML_API_ACCESS_KEY": "k", "CLEARML_API_SECRET_KEY": "s"}
    (shell.place / "x.py").write_text("print(1)")
    assert "at least 3 characters" in shell.refusal("submit", "train", "--name", "x", "x.py", code=2, **server)


@pytest.mark.parametrize("command", [["submit", "train", "x.py"], ["logs", "a" * 32], ["abort", "a" * 32]])
def test_a_server_that_does_not_answer_is_told_within_seconds(shell: Shell, command: list[str]) -> None:
    server = {"CLEARML_API_HOST": "http://127.0.0.1:1", "CLEARML_API_ACCESS_KEY": "k", "CLEARML_API_SECRET_KEY": "s"}
    (shell.place / "x.py").write_text("print(1)")
    assert "is the server running?" in shell.refusal(*command, **server)


def test_credentials_that_cannot_be_written(shell: Shell, tmp_path: Path) -> None:
    state = shell.place / "home" / "workstation"
    state.mkdir(parents=True)
    pair = {"access_key": "a", "secret_key": "b"}
    (state / "credentials.json").write_text(json.dumps({"fleet": pair, "user": pair}))
    assert "cannot be written" in shell.refusal("server", "credentials", "--write", "nowhere/x")
    (tmp_path / "adir").mkdir()
    assert "cannot be written" in shell.refusal("server", "credentials", "--write", "adir")
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
