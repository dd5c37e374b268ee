"""fleet.yaml -> Config. Every problem is found in one reading, each on one line with its path."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fleet.config.agent import read_agent
from fleet.config.budget import check_budgets, read_budget, read_limits
from fleet.config.formats import MAX_CHARS, plain
from fleet.config.identity import read_identity
from fleet.config.quantities import address, duration, memory_gib, money, number, url
from fleet.config.resources import OWN_KEYS, gpus_of, read_resource
from fleet.config.schedule import read_schedule
from fleet.config.section import Section, expanded
from fleet.config.settings import Address, Config, Embedded, Front, OnShutdown
from fleet.config.tls import check_tls, read_tls
from fleet.errors import ConfigError
from fleet.model import Fairness, GpuNeed, Preference, Queue, Resource, ServerAccess, read_gpu_type
from fleet.nearest import which

LISTEN = Address(host="127.0.0.1", port=8765)
# Longer than a boot and a short task, shorter than a working day: who waits so long has been passed.
STARVATION_AFTER: timedelta | None = timedelta(minutes=30)
LONGEST_PROBLEM = 500
SHORTEST_QUEUE_NAME = 3  # the server refuses shorter ones
# Keys that the embedded server does not have.
OF_A_SERVER = ("access_key", "secret_key", "web_url", "files_url", "authority")
PEM = "-----BEGIN CERTIFICATE-----"
ONE_GPU = GpuNeed(at_least=1, at_most=1)
CLUSTER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
RESOURCE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62})")


def load(path: str | Path, *, is_for_real: bool = True) -> Config:
    """Read and check a fleet file. Not `is_for_real`: nothing will be launched, so no address has to be reachable.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; `problems` names everything.
    """
    return parse(text_of(path), str(path), is_for_real=is_for_real)


def parse(text: str, origin: str, environment: Mapping[str, str] | None = None, *, is_for_real: bool = True) -> Config:
    """As `load`, of a text. `origin` names it in problems; `environment` is what `${NAME}` is looked up in.

    Raises:
        ConfigError: as `load`.
    """
    data, problems = plain(text, origin)
    top = Section(data, "", problems, environment)
    config = _config(top, origin)
    if is_for_real:
        _check_reach(top, config)
    if problems:
        raise ConfigError(*lines(origin, problems))
    return config


def peek(path: str | Path) -> Front:
    """The few lines that reading commands need. The rest of the file is neither read nor checked, and no secret is looked up.

    Raises:
        ConfigError: it cannot be read, or one of these lines is wrong.
    """
    data, _ = plain(text_of(path), str(path))
    problems: list[str] = []
    front = _front(Section(data, "", problems))
    if problems:
        raise ConfigError(*lines(str(path), problems))
    return front


def lines(origin: str, problems: Sequence[str]) -> Iterator[str]:
    """One line each, whatever characters the file's keys are made of."""
    for problem in problems:
        yield f"{origin}: " + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in problem[:LONGEST_PROBLEM])


def text_of(path: str | Path, how_to: str = "make one with: fleet init") -> str:
    """What a fleet file says. `how_to`: what to do where there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            return file.read(MAX_CHARS + 1)  # it may be a device without an end
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not text (UTF-8); is it the fleet file?") from error
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: `~` of a user without a home
        why = getattr(error, "strerror", None) or str(error)
        hint = f"; {how_to}" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"{path}: {why}{hint}") from error


def _config(top: Section, origin: str) -> Config:
    top.require("resources", "queues")
    front = _front(top)
    agent = read_agent(top.section("agent"))
    machines = list(top.sections("resources"))
    agents = {name: read_agent(part.section("agent"), agent) for name, part in machines}
    resources = tuple(_resource(name, part) for name, part in machines)
    parts = list(top.sections("queues"))
    queues = tuple(read_queue(name, part) for name, part in parts)
    budgets = {name: read_limits(part.section("budget")) for name, part in parts if part.has("budget")}
    config = Config(
        origin=origin,
        cluster=front.cluster,
        server=_server(top, front.advertise_url),
        store=_store(top),
        state_dir=front.state_dir,
        listen=front.listen,
        advertise_url=front.advertise_url,
        poll_interval=top.read("poll_interval", read_poll_interval, timedelta(seconds=2)),
        budget=replace(read_budget(top.section("budget")), queues=budgets),
        agent=agent,
        agents={name: own for name, own in agents.items() if own != agent},
        resources=resources,
        queues=queues,
        fairness=top.choice("fairness", Fairness, Fairness.PRIORITY),
        on_shutdown=top.choice("on_shutdown", OnShutdown, OnShutdown.NOTHING),
        starvation_after=top.read("starvation_after", _starvation_after, STARVATION_AFTER),
        wait_usd_per_hour=top.read("wait_usd_per_hour", _wait_usd_per_hour, None),
        tls=front.tls,
        identity=read_identity(top.section("identity")),
    )
    top.no_more()
    _check_names(top, config)
    _check_queues(top, config)
    _check_budget(top, config)
    return config


def _front(top: Section) -> Front:
    cluster = read_cluster(top)
    listen = top.read("listen", _address, LISTEN)
    tls = read_tls(top, listen)
    listen = replace(listen, is_tls=tls.is_on)
    raw_url = top.value("advertise_url", None)
    return Front(
        cluster=cluster,
        listen=listen,
        advertise_url=_url(top, "advertise_url", raw_url) or listen.url,
        state_dir=_state_dir(top, cluster or "fleet"),
        tls=tls,
    )


def read_cluster(top: Section) -> str:
    """The name of the fleet; empty with a problem where there is none."""
    top.require("cluster")
    cluster = top.text("cluster", "")
    if cluster and not CLUSTER.fullmatch(cluster):
        top.wrong("cluster", "a name of 1 to 40 small letters, digits and -, as research")
    return cluster


def _server(top: Section, advertise_url: str) -> Embedded | ServerAccess:
    """`embedded` (alone, or as the URL), or the URL of a ClearML API server with its keys."""
    if isinstance(name := top.anything("server"), str):
        if name != "embedded":
            top.wrong("server", "expected embedded, or keys: {url: ..., access_key: ..., secret_key: ...}")
        return _embedded(Section({}, "server", []), advertise_url)
    part = top.section("server")
    where = part.value("url", "")
    # Who gives keys means a server of his own, also where its URL is missing or cannot be read: that alone is then wrong.
    if where == "embedded" or not (where or any(part.has(key) for key in OF_A_SERVER)):
        return _embedded(part, advertise_url)
    part.require("url")
    if not where and not part.is_wrong("url"):
        part.wrong("url", "is empty")
    return read_access(part, where or None)


def _embedded(part: Section, advertise_url: str) -> Embedded:
    """On the fleet's own address, unless a proxy stands before it."""
    advertised = _url(part, "advertise_url", part.value("advertise_url", None))
    part.no_more()
    return Embedded(advertise_url=advertised or advertise_url)


def read_access(part: Section, where: str | None) -> ServerAccess:
    """A ClearML API server at `where`, and the keys to it. None: that is wrong, and said."""
    api_url = _url(part, "url", where) or ""
    if api_url:
        part.require("access_key", "secret_key")
    access = ServerAccess(
        api_url=api_url,
        web_url=_url(part, "web_url", part.value("web_url", None)) or _sibling(api_url, "app", 8080),
        files_url=_url(part, "files_url", part.value("files_url", None)) or _sibling(api_url, "files", 8081),
        access_key=part.value("access_key", ""),
        secret_key=part.value("secret_key", ""),
        authority=part.value("authority", None),
    )
    if access.authority and PEM not in access.authority:
        part.wrong("authority", "expected a certificate (PEM), as file:/etc/fleet/authority.pem")
    part.no_more()
    return access


def _sibling(api_url: str, name: str, port: int) -> str:
    """The web or files server beside an API server, by ClearML's own custom: api.host -> app.host, or port 8008 -> 8080."""
    if "://api." in api_url:
        return api_url.replace("://api.", f"://{name}.", 1)
    return f"{api_url.removesuffix(':8008')}:{port}" if api_url.endswith(":8008") else api_url


def _store(top: Section) -> str:
    store = top.value("store", "sqlite")
    if store != "sqlite" and not re.match(r"(sqlite:///|postgresql(\+\w+)?://)\S+$", store):
        top.wrong("store", "expected sqlite, or a URL as postgresql://user@host/name")
    return store


def _resource(name: str, part: Section) -> Resource:
    if not RESOURCE.fullmatch(name):
        part.wrong("", "a resource's name has letters, digits, - _ and . (it becomes a tag), 63 at most")
    return read_resource(name, part)


def read_queue(name: str, part: Section, only: str | None = None) -> Queue:
    """One queue. `only`: the one machine there is, so that nothing is to be said of machines."""
    if len(name) < SHORTEST_QUEUE_NAME:
        part.wrong("", f"a queue's name has at least {SHORTEST_QUEUE_NAME} characters: the server refuses shorter ones")
    queue = Queue(
        name=name,
        resources=(only,) if only else (),
        need=part.read("gpus", _need, ONE_GPU),
        priority=part.read("priority", _priority, 0),
        slots=part.whole("slots", None, at_least=1),
        gpu_type=part.read("gpu_type", _gpu_type, None),
        gpu_memory_gib=part.positive("gpu_memory", memory_gib, None),
        weight=part.read("weight", _weight, 1.0),
        is_shared_by_users=part.flag("user_shares", False),
    )
    if not only:
        queue = _with_machines(queue, part)
    part.no_more()
    return queue


def _with_machines(queue: Queue, part: Section) -> Queue:
    part.require("resources")
    part.anything("budget")  # `_config` reads it: the budgets stand together
    if part.has("resources") and part.anything("resources") == []:
        part.wrong("resources", "names no resource")
    return replace(
        queue,
        resources=part.texts("resources"),
        max_instances=part.whole("max_instances", None, at_least=1),
        order=part.choice("order", Preference, Preference.AUTO),
        headroom=part.whole("headroom", 0),
        schedule=read_schedule(part, "headroom", "max_instances"),
    )


# --- checks across keys


def _check_names(top: Section, config: Config) -> None:
    if top.has("resources") and not config.resources:
        top.wrong("resources", "names none")
    if top.has("queues") and not config.queues:
        top.wrong("queues", "names none")


def _check_queues(top: Section, config: Config) -> None:
    """Each queue's resources exist, and one of them can hold its tasks where the file alone can tell."""
    by_name = {resource.name: resource for resource in config.resources}
    for queue in config.queues:
        for name in queue.resources:
            if name not in by_name:
                top.wrong(f"queues.{queue.name}.resources", f"no resource is called {name}; {which(name, by_name)}")
        mine = [by_name[name] for name in queue.resources if name in by_name]
        known = [(gpus, resource.name) for resource in mine if (gpus := gpus_of(resource)) is not None]
        if known and len(known) == len(queue.resources) and max(known)[0] < queue.need.at_least:
            most, names = max(known)[0], ", ".join(name for _, name in known)
            need = f"{queue.need.at_least:g} GPU{'' if queue.need.at_least <= 1 else 's'}"
            top.wrong(f"queues.{queue.name}", f"needs {need}; the largest of its resources ({names}) has {most}")


def _check_reach(top: Section, config: Config) -> None:
    """A machine in a cloud cannot call a loopback address of ours, and none can call a port of TLS without it."""
    check_tls(top, config.tls, config.listen, config.advertise_url)
    far = [f"{r.name} ({r.provider})" for r in config.resources if r.provider in OWN_KEYS and r.provider != "local"]
    if not far:
        return
    urls = {} if top.is_wrong("advertise_url") else {"advertise_url": config.advertise_url}
    if isinstance(config.server, Embedded) and config.server.advertise_url != config.advertise_url:
        urls["server.advertise_url"] = config.server.advertise_url
    for key, said in urls.items():
        if re.match(r"https?://(localhost|127\.|\[::1\])", said):
            top.wrong(key, f"machines of {', '.join(far)} cannot call {said}; give a URL of this host that they reach")


def _check_budget(top: Section, config: Config) -> None:
    kept, cap = sum(r.min_instances for r in config.resources), config.budget.max_instances
    if cap is not None and kept > cap:
        top.wrong("budget.max_instances", f"is {cap}, but the resources' min_instances are {kept} together")
    check_budgets(top, config.budget)


# --- values


def _address(value: object) -> Address:
    host, port = address(value)
    return Address(host=host, port=port)


def _url(part: Section, key: str, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return url(value)
    except ValueError as error:
        part.wrong(key, str(error))
        return None


def _need(value: object) -> GpuNeed:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number of GPUs is 2, 0.5, 0 or 1-4")
    return GpuNeed.read(value if isinstance(value, str) else f"{value:.10g}")


def _gpu_type(value: object) -> str:
    words = value if isinstance(value, list) else [value]
    if any(isinstance(word, bool) or not isinstance(word, str | int) for word in words):
        raise ValueError("a GPU type is a word of its model, as a100, or a list of several")
    return read_gpu_type("|".join(map(str, words)))


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1_000_000:
        raise ValueError("a priority is a whole number; higher goes first")
    return value


def _weight(value: object) -> float:
    weight = number(value)
    if not 0.001 <= weight <= 1_000_000:
        raise ValueError("a weight is a number above 0: a queue of weight 2 gets twice the GPUs of one of weight 1")
    return weight


def _starvation_after(value: object) -> timedelta | None:
    if value == "never":
        return None
    after = duration(value)
    if after < timedelta(minutes=1):
        raise ValueError("must be 1m or more; or never")
    return after


def _wait_usd_per_hour(value: object) -> float | None:
    if value == "auto":
        return None
    usd = money(value)
    if not 0 <= usd <= 1_000_000:
        raise ValueError("must be 0 or more US dollars; or auto")
    return usd


def read_poll_interval(value: object) -> timedelta:
    interval = duration(value)
    if not timedelta(seconds=0.05) <= interval <= timedelta(hours=1):
        raise ValueError("a poll interval is between 50ms and 1h")
    return interval


def _state_dir(top: Section, cluster: str) -> Path:
    if found := top.place("state_dir", None):
        return found
    place = Path(os.environ.get("FLEET_HOME") or "~/.fleet") / cluster
    try:
        return expanded(str(place))
    except ValueError as error:
        top.wrong("state_dir", f"{error}; set FLEET_HOME to a directory for fleet's state")
        return place


def default_path() -> Path:
    """The fleet file that commands read when none is named: $FLEET_CONFIG, else ./fleet.yaml."""
    return Path(os.environ.get("FLEET_CONFIG") or "fleet.yaml")  # set to nothing is not set
