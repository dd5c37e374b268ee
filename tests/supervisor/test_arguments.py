"""Docker arguments of tasks: what is done, and what is refused before anything runs."""

from pathlib import Path

import pytest

from fleet.errors import AgentRefused
from fleet.supervisor.arguments import Options, merged, read


def test_what_a_task_may_ask_for_is_read_as_docker_run_reads_it():
    text = "-e A=1 --env B='two words' -v /data:/data:ro -m 8g --shm-size=512m --cpus 2.5 --network bridge -it --rm"
    assert read(text) == Options(
        environment=(("A", "1"), ("B", "two words")),
        binds=("/data:/data:ro",),
        memory_bytes=8 << 30,
        shm_bytes=512 << 20,
        cpus=2.5,
        network="bridge",
    )
    assert read("--ulimit memlock=-1 --ulimit nofile=10:20 --cap-add SYS_PTRACE --ipc=host --user 1000:100") == Options(
        ulimits=(("memlock", -1, -1), ("nofile", 10, 20)), capabilities=("SYS_PTRACE",), ipc="host", user="1000:100"
    )
    assert read("") == Options()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--privileged", "unrecognized arguments: --privileged; fleet takes --env, --volume"),
        ("--gpus all", "unrecognized arguments: --gpus all"),
        ("--entrypoint sh", "unrecognized arguments: --entrypoint"),
        ("--pid host", "unrecognized arguments: --pid"),
        ("--security-opt seccomp=unconfined", "unrecognized arguments: --security-opt"),
        ("--priv", "unrecognized arguments: --priv"),
        ("-e", "argument -e/--env: expected one argument"),
        ("-e HOME", "--env HOME: has no value"),
        ("-e A-B=1", "--env A-B: is no name of a variable"),
        ("-v /:/host", "--volume /:/host: holds what is the machine's own"),
        ("-v /var/run/docker.sock:/s", "holds what is the machine's own"),
        ("-v /data/../etc:/etc", "holds what is the machine's own"),
        ("-v /var:/var", "holds what is the machine's own"),
        ("-v data", "is not SOURCE:/TARGET"),
        ("-v ../x:/x", "is neither an absolute path nor the name of a volume"),
        ("-v /data:/data:shared", "ends in an option that fleet does not know"),
        ("--network container:other", "--network container:other: is not allowed; host or bridge or none is"),
        ("--cap-add SYS_ADMIN", "--cap-add SYS_ADMIN: is not allowed"),
        ("--device /dev/sda", "--device /dev/sda: is not allowed"),
        ("--device /dev/infiniband/../sda", "is not allowed"),
        ("--memory lots", "--memory lots: is not a size"),
        ("--user root", "--user root: is not a number"),
        ("--label fleet.task=another", "labels that begin with fleet. are fleet's own"),
        ("'open", "cannot be read: No closing quotation"),
        ("image", "unrecognized arguments: image"),
    ],
)
def test_what_could_take_over_the_machine_or_is_not_understood_is_refused_in_one_line(text: str, words: str):
    with pytest.raises(AgentRefused) as refused:
        read(text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_link_to_a_forbidden_directory_is_forbidden_too(tmp_path: Path):
    (tmp_path / "innocent").symlink_to("/etc")
    with pytest.raises(AgentRefused, match="machine's own"):
        read(f"-v {tmp_path}/innocent:/x")


def test_the_fleet_file_may_mount_what_a_task_may_not():
    assert read("-v /etc/pki:/etc/pki:ro", is_ours=True).binds == ("/etc/pki:/etc/pki:ro",)


def test_a_task_s_arguments_come_after_those_of_the_fleet_file():
    both = merged(read("-m 8g -e A=1 --network bridge"), read("-m 4g -e B=2"))
    assert both == Options(environment=(("A", "1"), ("B", "2")), memory_bytes=4 << 30, network="bridge")


def test_values_of_a_task_s_variables_are_not_shown_by_mistake():
    assert "S3CRET" not in repr(read("-e KEY=S3CRET"))
