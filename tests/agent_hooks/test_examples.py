"""The shipped examples do what they say, run as a supervisor runs them."""

import contextlib
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent_hooks import hooks as hooks_module
from agent_hooks.hooks import Hooks, Moment

EXAMPLES = Path(hooks_module.__file__).with_name("examples")
TASK = {"FLEET_TASK_ID": "t1", "FLEET_TASK_NAME": "mnist", "FLEET_EXIT_CODE": "0"}


@pytest.fixture
def enabled(tmp_path, monkeypatch):
    """Link an example as its first lines say, and put programs that only take note before the real ones:
    enabled("post-task", "post-task-sync", aws="")."""

    def enable(moment: str, name: str, **programs: str) -> Hooks:
        place = tmp_path / "hooks" / moment
        place.mkdir(parents=True)
        (place / name).symlink_to(EXAMPLES / name)
        bins = tmp_path / "bin"
        bins.mkdir()
        for program, script in programs.items():
            (bins / program).write_text(f"#!/bin/sh\n{script}\n")
            (bins / program).chmod(0o755)
        monkeypatch.setenv("PATH", f"{bins}:/usr/sbin:/usr/bin:/sbin:/bin")
        return Hooks(tmp_path / "hooks", {"FLEET_INSTANCE": "i1"}, packaged=())

    return enable


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_executable_and_its_shell_is_clean(path: Path) -> None:
    assert os.access(path, os.X_OK)
    if path.read_text().startswith("#!/bin/sh"):
        if shutil.which("shellcheck") is None:
            pytest.skip("shellcheck is not installed")
        done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)
        assert done.stdout == ""


# --- scratch disks


@pytest.fixture
def disk(tmp_path) -> Iterator[str]:
    """An empty block device: a loop device on a file."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root, and mkfs.ext4 (package e2fsprogs)")
    file = tmp_path / "disk"
    with file.open("wb") as empty:
        empty.truncate(16 * 1024**2)
    made = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    yield made.stdout.strip()
    for place in sorted(tmp_path.glob("scratch*")):
        subprocess.run(["umount", str(place)], capture_output=True, check=False)
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def lsblk(*disks: tuple[str, str]) -> str:
    """The real one, but for the list of all disks: device and model, as EC2 shows them."""
    rows = "".join(f"{device} disk {model}\\n" for device, model in disks)
    return f'case "$*" in *MODEL*) printf "{rows}" ;; *) exec /usr/bin/lsblk "$@" ;; esac'


STORE = "Amazon EC2 NVMe Instance Storage"


def is_mounted(place: Path) -> bool:
    return any(line.split()[1] == str(place) for line in Path("/proc/self/mounts").read_text().splitlines())


def test_an_unused_local_disk_is_formatted_and_mounted_and_a_second_run_changes_nothing(
    enabled, disk, tmp_path, monkeypatch
):
    monkeypatch.setenv("SCRATCH_DIR", str(tmp_path / "scratch"))
    hooks = enabled("startup", "startup-scratch-nvme", lsblk=lsblk((disk, STORE)))
    assert hooks.run(Moment.STARTUP) is None
    assert is_mounted(tmp_path / "scratch")
    assert (tmp_path / "scratch").stat().st_mode & 0o7777 == 0o1777
    (tmp_path / "scratch" / "kept").write_text("data")
    assert hooks.run(Moment.STARTUP) is None
    assert (tmp_path / "scratch" / "kept").read_text() == "data"
    assert not (tmp_path / "scratch1").exists()


def test_a_dry_run_says_what_would_be_done(enabled, disk, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("SCRATCH_DRY_RUN", "1")
    (hook,) = enabled("startup", "startup-scratch-nvme", lsblk=lsblk((disk, STORE))).of(Moment.STARTUP)
    said = subprocess.run(hook.command, capture_output=True, text=True, check=True).stdout
    assert f"would run: mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 {disk}" in said
    assert subprocess.run(["wipefs", "--noheadings", disk], capture_output=True, check=True).stdout == b""
    assert not (tmp_path / "scratch").exists()


def test_a_disk_of_another_kind_or_with_anything_on_it_is_left_alone(enabled, disk, tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH_DIR", str(tmp_path / "scratch"))
    hooks = enabled("startup", "startup-scratch-nvme", lsblk=lsblk((disk, "Amazon Elastic Block Store")))
    assert hooks.run(Moment.STARTUP) is None
    assert not (tmp_path / "scratch").exists()
    subprocess.run(["mkfs.ext4", "-q", "-L", "precious", disk], check=True)
    (tmp_path / "bin" / "lsblk").write_text(f"#!/bin/sh\n{lsblk((disk, STORE))}\n")
    (hook,) = hooks.of(Moment.STARTUP)
    said = subprocess.run(hook.command, capture_output=True, text=True, check=True).stdout
    assert said == "no unused local NVMe disk here: nothing mounted\n"
    assert b"precious" in subprocess.run(["blkid", disk], capture_output=True, check=True).stdout


# --- object storage

NOTES = 'printf "%s " "$(basename "$0")" "$@" >> "$SYNC_NOTES"'


@pytest.mark.parametrize(
    ("target", "tool", "arguments"),
    [
        ("s3://b/out", "aws", "aws s3 sync --only-show-errors {here} s3://b/out/t1 "),
        ("s3://b/out/", "rclone", "rclone copy --s3-env-auth {here} :s3:b/out/t1 "),
        ("gs://b", "gcloud", "gcloud storage rsync --recursive {here} gs://b/t1 "),
        ("gs://b", "gsutil", "gsutil -q -m rsync -r {here} gs://b/t1 "),
        ("box:b/out", "rclone", "rclone copy {here} box:b/out/t1 "),
    ],
)
def test_a_directory_is_copied_after_a_task_with_the_tool_that_is_there_and_no_secret_in_its_arguments(
    enabled, tmp_path, monkeypatch, target, tool, arguments
):
    hooks = enabled("post-task", "post-task-sync", **{tool: f'[ "$AWS_SECRET_ACCESS_KEY" = s3cret ] && {NOTES}'})
    only_these(tmp_path, monkeypatch)
    here = tmp_path / "outputs"
    here.mkdir()
    conf = tmp_path / "sync.conf"
    conf.write_text(f"SYNC_FROM={here}\nSYNC_TO={target}\nexport AWS_SECRET_ACCESS_KEY=s3cret\n")
    monkeypatch.setenv("SYNC_CONF", str(conf))
    monkeypatch.setenv("SYNC_NOTES", str(tmp_path / "notes"))
    assert hooks.run(Moment.POST_TASK, TASK) is None
    assert (tmp_path / "notes").read_text() == arguments.format(here=here)


def only_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No tool of this machine is found, only those that the test made."""
    for name in ("basename", "sh"):
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_what_hinders_a_copy_is_said_in_one_line(enabled, tmp_path, monkeypatch):
    hooks = enabled("post-task", "post-task-sync")
    only_these(tmp_path, monkeypatch)
    monkeypatch.setenv("SYNC_CONF", str(tmp_path / "missing"))
    assert "SYNC_FROM: is not set in " in hooks.run(Moment.POST_TASK, TASK).text
    monkeypatch.setenv("SYNC_FROM", str(tmp_path))
    monkeypatch.setenv("SYNC_TO", "s3://b")
    failure = hooks.run(Moment.POST_TASK, TASK)
    assert failure.text == "exit code 1: nothing to copy to s3://b with; put aws or rclone into the image"
    monkeypatch.setenv("SYNC_TO", "/mnt")
    assert "is no address of object storage" in hooks.run(Moment.POST_TASK, TASK).text
    monkeypatch.setenv("SYNC_FROM", str(tmp_path / "nothing-was-written"))
    assert hooks.run(Moment.POST_TASK, TASK) is None


# --- webhook


@contextlib.contextmanager
def listening(*answers: int) -> Iterator[tuple[str, list[tuple[bytes, str | None]]]]:
    """A web service that gives these answers, the last one for ever; its address, and what it was sent."""
    got: list[tuple[bytes, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((body, self.headers["X-Fleet-Signature"]))
            self.send_response(answers[min(len(got), len(answers)) - 1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/hook/w0rd", got
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def webhook(enabled, tmp_path, monkeypatch):
    """The example with this configuration: webhook({"url": ...})."""
    hooks = enabled("notice", "webhook", python3='exec /usr/bin/env -u PATH PATH=/usr/bin:/bin python3 "$@"')
    shutil.rmtree(tmp_path / "bin")

    def configure(conf: dict[str, str] | None) -> Hooks:
        if conf is not None:
            (tmp_path / "webhook.json").write_text(json.dumps(conf))
        monkeypatch.setenv("WEBHOOK_CONF", str(tmp_path / "webhook.json"))
        return hooks

    return configure


def test_a_webhook_is_told_what_happens_and_who_says_so(webhook):
    with listening(200) as (url, got):
        hooks = webhook({"url": url, "secret": "k3y"})
        assert hooks.run(Moment.NOTICE, {"FLEET_REASON": "spot: in 2 min"}) is None
    ((body, signature),) = got
    told = json.loads(body)
    assert (told["moment"], told["text"]) == ("notice", "i1 is taken back: spot: in 2 min")
    facts = {"FLEET_DEADLINE_S": "20", "FLEET_INSTANCE": "i1", "FLEET_MOMENT": "notice"}
    assert told["facts"] == {**facts, "FLEET_REASON": "spot: in 2 min"}
    assert signature == "sha256=" + hmac.new(b"k3y", body, hashlib.sha256).hexdigest()


def test_a_webhook_that_fails_is_asked_again_but_not_when_it_refuses(webhook):
    with listening(503, 200) as (url, got):
        assert webhook({"url": url}).run(Moment.NOTICE) is None
    assert [signature for _, signature in got] == [None, None]
    with listening(404) as (url, got):
        assert webhook({"url": url}).run(Moment.NOTICE).text == "exit code 1: webhook: answered 404"
    assert len(got) == 1


def test_what_is_wrong_with_a_webhook_is_said_in_one_line_without_its_address(webhook):
    assert "webhook.json cannot be used: FileNotFoundError" in webhook(None).run(Moment.NOTICE).text
    text = webhook({"url": "http://127.0.0.1:1/w0rd"}).run(Moment.NOTICE).text
    assert text.startswith("exit code 1: webhook: not reached: ")
    assert "w0rd" not in text
    assert "\n" not in text
