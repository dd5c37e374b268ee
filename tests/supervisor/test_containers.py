"""What is decided about containers, without an engine."""

import contextlib
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from fleet.supervisor import bootstrap
from fleet.supervisor import containers as containers_module
from fleet.supervisor.agents import Outcome
from fleet.supervisor.containers import Container
from fleet.supervisor.endings import outcome_of
from fleet.supervisor.engine import Engine, EngineFault, Frames, Seen
from fleet.supervisor.images import MOST_KNOWN, newest, to_remove
from fleet.supervisor.leftovers import Leftovers
from fleet.supervisor.vault import Vault
from tests.waiting import PATIENCE, wait_for


def a_frame(text: str, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text.encode()).to_bytes(4, "big") + text.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 1000])
def test_a_console_is_read_from_its_frames_however_they_are_cut(size: int):
    data = a_frame("one\n") + a_frame("", 2) + a_frame("two ü\n", 2) + a_frame("x" * 300)
    frames = Frames()
    pieces = [frames.text(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join(pieces).decode() == "one\ntwo ü\n" + "x" * 300


def seen(exit_code: int, **more: object) -> Seen:
    usual = {"id": "c", "labels": {}, "is_running": False, "pid": 0, "is_out_of_memory": False, "memory_bytes": 0}
    return Seen(**{**usual, "exit_code": exit_code, **more})  # type: ignore[arg-type]


def test_a_container_that_the_kernel_killed_for_memory_says_so():
    limit = "out of memory: the kernel killed it, because its container used more than its limit of 64 MiB"
    assert outcome_of(seen(137, is_out_of_memory=True, memory_bytes=64 << 20), False) == Outcome(
        exit_code=137, why=limit
    )
    found = outcome_of(seen(1), heard_of_memory=True)  # one of its processes was killed, and the rest gave up
    assert found.exit_code == 1
    assert "what the machine had" in str(found.why)


def test_a_container_that_bore_the_loss_of_a_process_is_not_out_of_memory():
    assert outcome_of(seen(0), heard_of_memory=True) == Outcome(exit_code=0)


def test_a_container_that_somebody_removed_counts_as_killed():
    assert outcome_of(None, False) == Outcome(exit_code=137, why="somebody removed its container")


def test_of_the_images_that_tasks_used_the_one_unused_longest_goes_first_and_some_never_go():
    used_at = {"old": 1.0, "new": 9.0, "running": 0.5, "default": 0.1, "alias": 0.2, "gone": 0.3}
    here = {"old": "1", "new": "2", "running": "3", "default": "4", "alias": "4"}
    assert list(to_remove(used_at, here, in_use={"3"}, default="default")) == ["old", "new"]


def test_of_images_with_a_name_of_their_own_for_each_task_only_the_newest_are_remembered():
    used_at = {f"ci:{number}": float(number) for number in range(MOST_KNOWN + 10)}
    assert newest(used_at) == {f"ci:{number}": float(number) for number in range(10, MOST_KNOWN + 10)}
    assert newest({"a": 1.0}) == {"a": 1.0}


def test_containers_that_an_engine_could_not_remove_go_with_the_next_one_that_it_can(caplog):
    asked: list[str] = []
    stuck = {"a", "b", "c"}

    def remove(id_: str) -> None:
        asked.append(id_)
        if id_ in stuck:
            raise EngineFault("docker: remove: it does not answer")

    leftovers = Leftovers(remove)
    for id_ in ("a", "b", "c"):
        leftovers.remove(id_)
    assert asked == ["a", "b", "c"], "nothing else is asked of an engine that is away"
    stuck = {"a"}
    leftovers.remove("d")
    assert asked[3:] == ["d", "a"]
    leftovers.remove("e")
    assert asked[5:] == ["e", "b", "c", "a"], "one that can never be removed does not keep the others"
    assert len(leftovers) == 1
    stuck = set()
    leftovers.remove("f")
    assert len(leftovers) == 0
    assert caplog.messages.count("container not removed") == 5


def test_a_container_is_killed_as_soon_as_its_engine_answers_again(monkeypatch):
    """Its end is ordered once: where it was lost with the engine's restart, the task kept its GPU for ever."""
    monkeypatch.setattr(containers_module, "KILL_AGAIN_S", 0.001)
    told: list[int] = []

    class Away:
        def kill(self, id_: str, number: int) -> None:
            told.append(number)
            if len(told) < 3:
                raise EngineFault("docker: kill: the engine does not answer")

    container = Container(mark="a1", id="c", engine=Away(), endings=None)  # type: ignore[arg-type]
    container.kill()
    wait_for(lambda: len(told) == 3)
    assert told == [signal.SIGKILL] * 3


def test_the_files_of_an_allocation_are_for_their_owner_and_go_with_it(tmp_path: Path):
    vault = Vault(tmp_path / "agents")
    for mark in ("a1", "a2"):
        vault.put(mark, {"environment": "export KEY=S3CRET\n"})
    assert {each.stat().st_mode & 0o777 for each in tmp_path.rglob("environment")} == {0o600}
    assert {each.stat().st_mode & 0o777 for each in (tmp_path / "agents").iterdir()} == {0o700}
    vault.keep_only({"a2"})
    assert [each.name for each in (tmp_path / "agents").iterdir()] == ["a2"]
    vault.drop("a2")
    assert list((tmp_path / "agents").iterdir()) == []


def test_an_engine_elsewhere_or_nowhere_is_refused_in_one_line(tmp_path: Path):
    with pytest.raises(EngineFault, match=r"tcp://10.0.0.1:2375 is not the engine of this machine"):
        Engine("tcp://10.0.0.1:2375")
    with pytest.raises(EngineFault) as fault:
        Engine(f"unix://{tmp_path}/none.sock")
    assert (
        str(fault.value)
        == f"docker: connect: the engine at {tmp_path}/none.sock does not answer: No such file or directory"
    )


# --- the first program of a container, here without one


def run(tmp_path: Path, agent: str | None, pip: str = "exit 1", version: str = "3.0.3", setup: str = "") -> str:
    """Run it where python3 has this version of clearml-agent (None: none); what it printed."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    state = tmp_path / "agent"
    state.write_text(agent or "")
    (programs / "python3").write_text(f"""#!/bin/sh
case "$1" in
-) [ -s {state} ] && [ "$2" = "" -o "$2" = "$(cat {state})" ] ;;
-m) [ "$3" = --version ] && exit 0
    echo "pip $*"; {pip} ;;
-u) echo "agent $(cat {state}) $* greeting=$GREETING" ;;
esac
""")
    (programs / "python3").chmod(0o755)
    files = bootstrap.files(
        {"PATH": f"{programs}:/usr/bin:/bin", "FLEET_TASK_ID": "t 1", "ODD": "it's $HOME"}, "", setup
    )
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace(bootstrap.MOUNT, str(tmp_path)))
    command = [word.replace(bootstrap.MOUNT, str(tmp_path)) for word in bootstrap.command(version, False)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20 * PATIENCE, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.stderr == ""
    return done.stdout + f"exit {done.returncode}"


@pytest.mark.parametrize("ask", [lambda engine: engine.happenings({"a": "b"}, 0), lambda engine: engine.pull("image")])
def test_an_engine_that_breaks_off_within_a_word_is_a_fault_like_any_other(tmp_path: Path, ask) -> None:
    """Else whoever listens for the ends of containers would hear of none any more, and a start would never come to its end."""
    version, cut = b'{"ApiVersion": "1.41"}', b'{"status": "Pul'
    chunk = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(cut), cut)

    def answer(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    is_first = b"/version" in connection.recv(65536)
                    whole = b"Content-Length: %d\r\n\r\n%b" % (len(version), version)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + (whole if is_first else chunk))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine"))
        listener.listen()
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        engine = Engine(f"unix://{tmp_path}/engine")
        with pytest.raises(EngineFault, match="broke off its answer"):
            list(ask(engine))
        engine.close()
        listener.shutdown(socket.SHUT_RDWR)


def test_an_image_that_brings_the_right_agent_needs_nothing_installed(tmp_path: Path):
    ran = run(tmp_path, "3.0.3", setup="export GREETING=hello\r\necho $ODD\r\n")
    assert ran.splitlines() == [
        "it's $HOME",
        "agent 3.0.3 -u -m clearml_agent execute --disable-monitoring --id t 1 greeting=hello",
        "exit 0",
    ]


def test_any_agent_will_do_where_no_version_is_wanted(tmp_path: Path):
    assert run(tmp_path, "2.0.0", version="").startswith("agent 2.0.0 ")


@pytest.mark.parametrize("agent", [None, "2.0.0"])
def test_the_wanted_version_is_installed_where_it_is_missing(tmp_path: Path, agent: str | None):
    ran = run(tmp_path, agent, pip=f"echo 3.0.3 >{tmp_path}/agent")
    assert "pip -m pip install -q clearml-agent==3.0.3\nagent 3.0.3 " in ran


def test_an_agent_that_cannot_be_installed_ends_the_container_in_one_line(tmp_path: Path):
    ran = run(tmp_path, None).splitlines()
    assert ran[-2].startswith("### fleet: clearml-agent 3.0.3 could not be installed in this image; put it in,")
    assert ran[-1] == "exit 125"
