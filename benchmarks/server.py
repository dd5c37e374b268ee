"""How many calls a second the embedded server answers on SQLite: a process of its own, asked over a few kept connections."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from benchmarks import rig
from benchmarks.client import Client
from benchmarks.figures import line, percentile, rounded
from fleet.model import ServerAccess

CONNECTIONS = 4
TASKS = 1000  # to enqueue and claim
SECONDS = 4.0  # of each of the other calls
WORKERS = 200
LONG_BATCH = 100  # lines
TEXT = "epoch 12 step 3400: loss 0.1234, 1520 samples a second, 31.2 GiB of memory in use"  # what a line may look like

Send = Callable[[], bool]  # one call; False: there is no more to do
Sender = Callable[[Client, int], Send]  # for the connection of this number


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of one kind of call."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    server_cores: float  # of the machine, while it lasted
    n: int


def measure(is_quick: bool) -> Iterator[str]:
    count, seconds = (40, 0.2) if is_quick else (TASKS, SECONDS)
    with rig.directory() as place, rig.server(place) as (process, access):
        client = Client(access)
        queue = str(client.call("queues.create", name="bench")["id"])
        tasks = [rig.a_task(client) for _ in range(count)]
        loads = {
            "enqueue": (_enqueue(tasks, queue), None),
            "claim": (_claim(queue), None),
            "status_report": (_status_report(queue), seconds),
            "log_1_line": (_log(tasks, 1), seconds),
            "log_100_lines": (_log(tasks, LONG_BATCH), seconds),
        }
        for name, (sender, limit_s) in loads.items():
            load = _drive(access, process.pid, sender, limit_s)
            lines_per_s = {"log_1_line": 1, "log_100_lines": LONG_BATCH}.get(name, 0) * load.calls_per_s
            yield line(
                f"server.{name}",
                load.calls_per_s,
                "calls a second",
                connections=CONNECTIONS,
                p50_ms=load.p50_ms,
                p99_ms=load.p99_ms,
                server_cores=load.server_cores,
                server_cpu_ms_per_call=1000 * load.server_cores / load.calls_per_s,
                n=load.n,
                **({"lines_per_s": lines_per_s} if lines_per_s else {}),
            )


def _drive(access: ServerAccess, server: int, sender: Sender, limit_s: float | None) -> Load:
    """All connections at once, until the time is over or there is no more to do."""
    clients = [Client(access) for _ in range(CONNECTIONS)]
    sends = [sender(client, number) for number, client in enumerate(clients)]
    used = _cpu_s(server)
    started = time.perf_counter()
    until = started + limit_s if limit_s else float("inf")
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        samples = [ms for each in threads.map(lambda send: _repeat(send, until), sends) for ms in each]
    seconds = time.perf_counter() - started
    for client in clients:
        client.close()
    return Load(
        calls_per_s=len(samples) / seconds,
        p50_ms=percentile(samples, 50),
        p99_ms=percentile(samples, 99),
        server_cores=rounded((_cpu_s(server) - used) / seconds),
        n=len(samples),
    )


def _repeat(send: Send, until: float) -> list[float]:
    """Milliseconds of each call."""
    samples = []
    now = time.perf_counter()
    while now < until:
        is_more = send()
        before, now = now, time.perf_counter()
        samples.append(1000 * (now - before))
        if not is_more:
            break
    return samples


def _enqueue(tasks: Sequence[str], queue: str) -> Sender:
    left = iter(tasks)

    def sender(client: Client, _number: int) -> Send:
        def send() -> bool:
            task = next(left, None)
            if task is not None:
                _ok(client, client.prepare("tasks.enqueue", json.dumps({"task": task, "queue": queue}).encode()))
            return task is not None

        return send

    return sender


def _claim(queue: str) -> Sender:
    def sender(client: Client, _number: int) -> Send:
        request = client.prepare("queues.get_next_task", json.dumps({"queue": queue}).encode())
        return lambda: b'"task"' in _ok(client, request)

    return sender


def _status_report(queue: str) -> Sender:
    """Idle workers, as supervisors report them every 30 s."""
    stats = {"cpu_usage": [3.1], "memory_used": 2048.5, "memory_free": 14000.0, "gpu_usage": [0.0] * 4}
    numbers = itertools.count()

    def sender(client: Client, _number: int) -> Send:
        def send() -> bool:
            worker = f"bench:gpu:{next(numbers) % WORKERS}"
            at = int(time.time() * 1000)
            body = {"worker": worker, "timestamp": at, "queues": [queue], "machine_stats": stats}
            _ok(client, client.prepare("workers.status_report", json.dumps(body).encode()))
            return True

        return send

    return sender


def _log(tasks: Sequence[str], lines: int) -> Sender:
    """Each connection writes the console of a task of its own; every line has its own time, as no two are sent twice."""

    def sender(client: Client, number: int) -> Send:
        task, at = tasks[number], itertools.count(int(time.time() * 1000))

        def event() -> str:
            said = {"type": "log", "task": task, "worker": "bench", "level": "info", "msg": TEXT, "timestamp": next(at)}
            return json.dumps(said)

        def send() -> bool:
            body = "\n".join(event() for _ in range(lines)).encode()
            _ok(client, client.prepare("events.add_batch", body, "application/json-lines"))
            return True

        return send

    return sender


def _ok(client: Client, request: bytes) -> bytes:
    status, body = client.send(request)
    if status != 200:
        raise RuntimeError(f"answered {status}: {body[:300].decode(errors='replace')}")
    return body


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
