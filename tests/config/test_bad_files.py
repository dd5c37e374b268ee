"""Every wrong key, value and reference of a fleet file is one line that names its path, the cause and the way out."""

import pytest

from fleet.config import parse
from fleet.errors import ConfigError

GOOD = """\
cluster: lab
resources:
  gpu: {provider: local, gpus: 4}
  cpu: {provider: local, gpus: 0}
queues:
  train: {resources: [gpu]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parse(text, "fleet.yaml", environment={})
    return list(refused.value.problems)


# What is added to, or replaced in, a good file -> the whole line that says so
TOP = [
    ("poll_intervall: 2s", "poll_intervall: unknown key; did you mean poll_interval?"),
    ("clusters: x", "clusters: unknown key; did you mean cluster?"),
    ("Budget: {}", "Budget: unknown key; did you mean budget?"),
    ("poll_interval: 2", "poll_interval: a duration has a unit, as 90s, 10m, 24h or 7d, got 2"),
    ("poll_interval: fast", "poll_interval: a duration has a unit, as 90s, 10m, 24h or 7d, got 'fast'"),
    ("poll_interval: 2 m s", "poll_interval: a duration has a unit, as 90s, 10m, 24h or 7d, got '2 m s'"),
    ("poll_interval: -2s", "poll_interval: a duration has a unit, as 90s, 10m, 24h or 7d, got '-2s'"),
    ("poll_interval: 0s", "poll_interval: a poll interval is between 50ms and 1h, got '0s'"),
    ("poll_interval: 2d", "poll_interval: a poll interval is between 50ms and 1h, got '2d'"),
    ("poll_interval: 999999999d", "poll_interval: a duration is at most ten years, got '999999999d'"),
    ("poll_interval: [2s]", "poll_interval: a duration has a unit, as 90s, 10m, 24h or 7d"),
    ("poll_interval: true", "poll_interval: a duration has a unit, as 90s, 10m, 24h or 7d, got True"),
    ("fairness: share", "fairness: expected priority or shares, got 'share'; did you mean shares?"),
    ("starvation_after: 5s", "starvation_after: must be 1m or more; or never, got '5s'"),
    ("wait_usd_per_hour: -1", "wait_usd_per_hour: must be 0 or more US dollars; or auto, got -1"),
    ("wait_usd_per_hour: much", "wait_usd_per_hour: expected US dollars, as 80 or 2.50, got 'much'"),
    ("listen: 8765", "listen: expected an address and a port, as 127.0.0.1:8765, got 8765"),
    ("listen: 127.0.0.1", "listen: expected an address and a port, as 127.0.0.1:8765, got '127.0.0.1'"),
    ("listen: 127.0.0.1:99999", "listen: expected an address and a port, as 127.0.0.1:8765, got '127.0.0.1:99999'"),
    ("listen: 'a b:1'", "listen: expected an address and a port, as 127.0.0.1:8765, got 'a b:1'"),
    ("advertise_url: fleet.lab:8765", "advertise_url: expected a URL, as https://host:port"),
    ("advertise_url: ftp://fleet.lab", "advertise_url: expected a URL, as https://host:port"),
    ("advertise_url: http://", "advertise_url: expected a URL, as https://host:port"),
    ("advertise_url: 'http://a b'", "advertise_url: expected a URL, as https://host:port"),
    ("advertise_url: 'http://[::1'", "advertise_url: expected a URL, as https://host:port"),
    ("advertise_url: http://a:99999", "advertise_url: expected a URL, as https://host:port"),
    ("advertise_url: 8765", "advertise_url: expected a text; put it in quotes"),
    ("advertise_url: ${NOT_SET}", "advertise_url: environment variable NOT_SET is not set"),
    ("store: mysql://a", "store: expected sqlite, or a URL as postgresql://user@host/name"),
    ("store: postgres", "store: expected sqlite, or a URL as postgresql://user@host/name"),
    ("store: 1", "store: expected a text; put it in quotes"),
    ("store: postgresql://me:${PW}@db/x", "store: environment variable PW is not set"),
    (
        "state_dir: ~nobody-here/x",
        "state_dir: ~nobody-here/x cannot be found: no home directory is known for ~nobody-here",
    ),
    ('state_dir: "a\\0"', "state_dir: a path has no null character"),
    (
        "store: file:~nobody-here/x",
        "store: ~nobody-here/x cannot be found: no home directory is known for ~nobody-here",
    ),
    ("store: file:/dev/zero", "store: file /dev/zero has more than 1000000 characters, which are no value"),
    (
        "tls: {certificate: ~nobody-here/x, key: /k}",
        "tls.certificate: ~nobody-here/x cannot be found: no home directory is known for ~nobody-here",
    ),
    (
        "identity: {aws_certificates: ~nobody-here/x}",
        "identity.aws_certificates: ~nobody-here/x cannot be found: no home directory is known for ~nobody-here",
    ),
    ("identity: {google_keys: keys}", "identity.google_keys: expected a URL, as https://host:port, got 'keys'"),
    ("agent: {docker: {shm_size: -1}}", "agent.docker.shm_size: must be more than 0, got -1"),
    ("agent: {docker: {shm_size: 0}}", "agent.docker.shm_size: must be more than 0, got 0"),
    (
        "agent: {venvs_cache: {free_space_threshold: -1}}",
        "agent.venvs_cache.free_space_threshold: must be 0 or more, got -1",
    ),
    (
        "agent: {environment: {'A=B': c}}",
        "agent.environment: 'A=B' with its value cannot be a variable; see to the name, and to nulls",
    ),
    ("state_dir: [a]", "state_dir: expected a text"),
    ("server: remote", "server: expected embedded, or keys: {url: ..., access_key: ..., secret_key: ...}"),
    ("server: [embedded]", "server: expected keys, got a list"),
    ("server: {url: embeded}", "server.url: expected a URL, as https://host:port"),
    ("server: {url: http://c:8008, access_key: a}", "server.secret_key: is missing"),
    ("server: {url: http://c:8008, secret_key: a}", "server.access_key: is missing"),
    (
        "server: {url: http://c:8008, access_key: a, secret_key: '${K}'}",
        "server.secret_key: environment variable K is not set",
    ),
    (
        "server: {url: http://c:8008, access_key: a, secret_key: file:/not/there}",
        "server.secret_key: file /not/there cannot be read: No such file or directory",
    ),
    (
        "server: {url: http://c:8008, access_key: a, secret_key: 12}",
        "server.secret_key: expected a text; put it in quotes",
    ),
    (
        "server: {url: http://c:8008, access_key: a, secret_key: b, web: http://x}",
        "server.web: unknown key; did you mean web_url?",
    ),
    ("server: {url: embedded, access_key: a}", "server.access_key: unknown key; known are advertise_url, url"),
    ("server: {access_key: a, secret_key: b, web_url: http://w}", "server.url: is missing"),
    ("server: {url: '${URL}', access_key: a, secret_key: b}", "server.url: environment variable URL is not set"),
    ("server: {url: '', access_key: a, secret_key: b}", "server.url: expected a text"),
    ("server: {url: file:/dev/null, access_key: a, secret_key: b}", "server.url: is empty"),
    ("server: {listen: 1}", "server.listen: unknown key; known are advertise_url, url"),
    ("budget: 20", "budget: expected keys, got a number"),
    ("budget: {max_instance: 2}", "budget.max_instance: unknown key; did you mean max_instances?"),
    ("budget: {max_instances: 0}", "budget.max_instances: expected a whole number, 1 or more, got 0"),
    ("budget: {max_instances: -1}", "budget.max_instances: expected a whole number, 1 or more, got -1"),
    ("budget: {max_instances: 1.5}", "budget.max_instances: expected a whole number, 1 or more, got 1.5"),
    ("budget: {max_instances: many}", "budget.max_instances: expected a whole number, 1 or more, got 'many'"),
    ("budget: {max_instances: true}", "budget.max_instances: expected a whole number, 1 or more, got True"),
    ("budget: {usd_per_hour: 0}", "budget.usd_per_hour: must be more than 0, got 0"),
    ("budget: {usd_per_day: -3}", "budget.usd_per_day: must be more than 0, got -3"),
    ("budget: {usd_per_month: lots}", "budget.usd_per_month: expected US dollars, as 80 or 2.50, got 'lots'"),
    ("budget: {usd_per_month: .inf}", "budget.usd_per_month: expected US dollars, as 80 or 2.50, got inf"),
    ("budget: {usd_per_month: .nan}", "budget.usd_per_month: expected US dollars, as 80 or 2.50, got nan"),
    ("budget: {usd_per_month: 80 EUR}", "budget.usd_per_month: expected US dollars, as 80 or 2.50, got '80 EUR'"),
    (
        "budget: {when_spent: drian}",
        "budget.when_spent: expected hold, drain or stop, got 'drian'; did you mean drain?",
    ),
    ("budget: {per_user: {usd_per_dya: 2}}", "budget.per_user.usd_per_dya: unknown key; did you mean usd_per_day?"),
    ("budget: {per_user: 3}", "budget.per_user: expected keys, got a number"),
    ("budget: {users: {ann: {usd_per_day: 0}}}", "budget.users.ann.usd_per_day: must be more than 0, got 0"),
    (
        "budget: {users: {ann: {when_spent: stop}}}",
        "budget.users.ann.when_spent: unknown key; known are max_instances, usd_per_day, usd_per_hour, usd_per_month",
    ),
    (
        "budget: {usd_per_day: 10, usd_per_month: 9}",
        "budget.usd_per_month: is 9, less than one day of usd_per_day=10",
    ),
    ("budget: {when_spent: 3}", "budget.when_spent: expected hold, drain or stop, got 3"),
    ("agent: docker", "agent: expected keys, got a text"),
    ("agent: {mode: dokcer}", "agent.mode: expected venv, interpreter or docker, got 'dokcer'; did you mean docker?"),
    ("agent: {mode: docker}", "agent.image: is missing: mode docker needs a default image"),
    ("agent: {version: 3.0}", "agent.version: expected a text, got 3.0; put it in quotes"),
    ("agent: {verson: '3.0.3'}", "agent.verson: unknown key; did you mean version?"),
    ("agent: {git: {usr: a}}", "agent.git.usr: unknown key; did you mean user?"),
    ("agent: {git: {token: a}}", "agent.git.user: is missing beside the token; for a token any name will do, as git"),
    ("agent: {git: {user: a, token: a, password: b}}", "agent.git.token: and password are both given; keep one"),
    ("agent: {git: {user: a, token: '${T}'}}", "agent.git.token: environment variable T is not set"),
    ("agent: {git: {ssh: maybe}}", "agent.git.ssh: expected true or false, got 'maybe'"),
    ("agent: {storage: {s4: {}}}", "agent.storage.s4: unknown key; known are azure, google, s3"),
    ("agent: {storage: {s3: {secrets: a}}}", "agent.storage.s3.secrets: unknown key; did you mean secret?"),
    ("agent: {storage: {s3: {buckets: {a: b}}}}", "agent.storage.s3.buckets: expected a list, got a mapping"),
    (
        "agent: {storage: {s3: {buckets: [{bukket: b}]}}}",
        "agent.storage.s3.buckets[0].bukket: unknown key; did you mean bucket?",
    ),
    ("agent: {storage: {s3: {buckets: [b]}}}", "agent.storage.s3.buckets[0]: expected keys, got a text"),
    ("agent: {environment: [A]}", "agent.environment: expected keys, got a list"),
    ("agent: {environment: {A: [1]}}", "agent.environment.A: expected a text, got list"),
    ("agent: {environment: {A: '${NOPE}'}}", "agent.environment.A: environment variable NOPE is not set"),
    ("agent: {stop_grace: 10}", "agent.stop_grace: a duration has a unit, as 90s, 10m, 24h or 7d, got 10"),
]
RESOURCE = [
    ("", "is missing"),
    ("provider: awz", "no provider is called 'awz'; did you mean aws?"),
    ("provider: azure, vm_size: x", "no provider is called 'azure'; there are aws, gcp, genesis, kubernetes, local"),
    ("provider: 3", "expected a text, got 3; put it in quotes"),
    ("provider: local, gpu: 3", "unknown key; did you mean gpus?"),
    ("provider: local, gpus: -1", "expected a number of simulated GPUs, 0 to 64, or real, got -1"),
    ("provider: local, gpus: 1.5", "expected a number of simulated GPUs, 0 to 64, or real, got 1.5"),
    ("provider: local, gpus: reel", "expected a number of simulated GPUs, 0 to 64, or real, got 'reel'"),
    ("provider: local, gpus: true", "expected a number of simulated GPUs, 0 to 64, or real, got True"),
    ("provider: local, gpus: 100000", "expected a number of simulated GPUs, 0 to 64, or real, got 100000"),
    ("provider: local, gpu_memory: big", "expected memory in GiB, as 40, got 'big'"),
    ("provider: local, gpu_memory: 0", "must be more than 0, got 0"),
    ("provider: local, usd_per_hour: -1", "a price is not below 0, got -1"),
    ("provider: local, cpus: 0", "expected a whole number, 1 or more, got 0"),
    ("provider: local, image: 5", "expected a text, got 5; put it in quotes"),
    (
        "provider: local, replace_sick: 1",
        "expected a part of the GPUs, 0 to less than 1 (0: at the first sick one), or never",
    ),
    ("provider: local, replace_sick: always", "expected a part of the GPUs, 0 to less than 1"),
    ("provider: local, replace_sick: true", "expected a part of the GPUs, 0 to less than 1"),
    ("provider: local, min_driver: newest", 'expected the version of a driver, as "550.54.15"'),
    ("provider: local, min_driver: ''", 'expected the version of a driver, as "550.54.15"'),
    ("provider: local, idle_timout: 3m", "unknown key; did you mean idle_timeout?"),
    ("provider: local, idle_timeout: 3", "a duration has a unit, as 90s, 10m, 24h or 7d; or auto, or never, got 3"),
    (
        "provider: local, idle_timeout: nevr",
        "a duration has a unit, as 90s, 10m, 24h or 7d; or auto, or never, got 'nevr'",
    ),
    ("provider: local, boot_timeout: 0s", "must be more than 0s, got '0s'"),
    ("provider: local, boot_timeout: never", "a duration has a unit, as 90s, 10m, 24h or 7d, got 'never'"),
    ("provider: local, max_lifetime: 0s", "must be more than 0s, got '0s'"),
    ("provider: local, max_instances: -2", "expected a whole number, 0 or more, got -2"),
    ("provider: local, max_instances: '3'", "expected a whole number, 0 or more, got '3'"),
    ("provider: local, min_instances: 3, max_instances: 2", "3 is more than max_instances, 2"),
    ("provider: local, subnets: [a]", "unknown key; known are"),
    ("provider: aws, zones: {a: b}", "expected a list of names, as [a, b], got a mapping"),
    ("provider: aws, zones: [1]", "expected a list of names, as [a, b], got a list"),
    ("provider: aws, zones: [a, a]", "a is listed twice"),
    ("provider: aws, instance_type: g5.xlarge", "unknown key; did you mean instance_types?"),
    ("provider: aws, market: spot_only", "expected spot, on_demand or spot_then_on_demand, got 'spot_only'"),
    ("provider: aws, market: [spot]", "expected spot, on_demand or spot_then_on_demand, got a list"),
    ("provider: aws, market: spot, fallback_after: 5m", "has a meaning only where market is spot_then_on_demand"),
    ("provider: aws, market: spot_then_on_demand, blackout: 5", "a duration has a unit, as 90s, 10m, 24h or 7d, got 5"),
    ("provider: aws, market: {fallback_after: 5m}", "is missing"),
    ("provider: aws, market: {policy: spot_then_on_demand, fallback: 5m}", "unknown key; did you mean fallback_after?"),
    ("provider: aws, access_key: '${AWS}'", "environment variable AWS is not set"),
    ("provider: aws, security_group: [a]", "unknown key; did you mean security_groups?"),
    ("provider: gcp, projekt: a", "unknown key; did you mean project?"),
    ("provider: kubernetes, namspace: a", "unknown key; did you mean namespace?"),
    ("provider: genesis, tokn: a", "unknown key; did you mean token?"),
]
QUEUE = [
    ("x1", "resources: [gpu]", "queues.x1: a queue's name has at least 3 characters: the server refuses shorter ones"),
    ("more", "", "queues.more.resources: is missing"),
    ("more", "resources: []", "queues.more.resources: names no resource"),
    ("more", "resources: [gpus]", "queues.more.resources: no resource is called gpus; did you mean gpu?"),
    ("more", "resources: [tpu9]", "queues.more.resources: no resource is called tpu9; there are gpu, cpu"),
    ("more", "resources: [gpu, gpu]", "queues.more.resources: gpu is listed twice"),
    ("more", "resources: 3", "queues.more.resources: expected a list of names, as [a, b], got 3"),
    ("more", "resource: [gpu], resources: [gpu]", "queues.more.resource: unknown key; did you mean resources?"),
    ("more", "resources: [gpu], gpus: 8", "queues.more: needs 8 GPUs; the largest of its resources (gpu) has 4"),
    (
        "more",
        "resources: [gpu, cpu], gpus: 6-8",
        "queues.more: needs 6 GPUs; the largest of its resources (gpu, cpu) has 4",
    ),
    ("more", "resources: [cpu]", "queues.more: needs 1 GPU; the largest of its resources (cpu) has 0"),
    ("more", "resources: [cpu], gpus: 0.5", "queues.more: needs 0.5 GPU; the largest of its resources (cpu) has 0"),
    ("more", "resources: [gpu], gpus: -1", "queues.more.gpus: a number of GPUs is 2, 0.5, 0 or 1-4, got -1"),
    ("more", "resources: [gpu], gpus: all", "queues.more.gpus: a number of GPUs is 2, 0.5, 0 or 1-4, got 'all'"),
    ("more", "resources: [gpu], gpus: 1-2-3", "queues.more.gpus: a number of GPUs is 2, 0.5, 0 or 1-4, got '1-2-3'"),
    (
        "more",
        "resources: [gpu], gpus: 4-1",
        "queues.more.gpus: a range of GPUs goes up from 1 or more, in whole GPUs: 1-4, got '4-1'",
    ),
    (
        "more",
        "resources: [gpu], gpus: 0-4",
        "queues.more.gpus: a range of GPUs goes up from 1 or more, in whole GPUs: 1-4, got '0-4'",
    ),
    (
        "more",
        "resources: [gpu], gpus: 1.5",
        "queues.more.gpus: a part of a GPU is less than 1; more than one are whole, got 1.5",
    ),
    ("more", "resources: [gpu], gpus: 5000", "queues.more.gpus: no machine has more than 1024 GPUs, got 5000"),
    ("more", "resources: [gpu], gpus: true", "queues.more.gpus: a number of GPUs is 2, 0.5, 0 or 1-4, got True"),
    ("more", "resources: [gpu], gpus: .inf", "queues.more.gpus: a number of GPUs is 2, 0.5, 0 or 1-4, got inf"),
    ("more", "resources: [gpu], gpus: ''", "queues.more.gpus: a number of GPUs is 2, 0.5, 0 or 1-4, got ''"),
    (
        "more",
        "resources: [gpu], priority: high",
        "queues.more.priority: a priority is a whole number; higher goes first, got 'high'",
    ),
    (
        "more",
        "resources: [gpu], gpu_type: true",
        "queues.more.gpu_type: a GPU type is a word of its model, as a100, or a list of several, got True",
    ),
    (
        "more",
        "resources: [gpu], gpu_type: [a100, null]",
        "queues.more.gpu_type: a GPU type is a word of its model, as a100, or a list of several",
    ),
    ("more", "resources: [gpu], slots: 0", "queues.more.slots: expected a whole number, 1 or more, got 0"),
    (
        "more",
        "resources: [gpu], max_instances: 0",
        "queues.more.max_instances: expected a whole number, 1 or more, got 0",
    ),
    ("more", "resources: [gpu], gpu: 1", "queues.more.gpu: unknown key; did you mean gpus?"),
]
WHOLE = [
    ("", "is empty; it should hold keys such as cluster, resources and queues (see fleet init)"),
    ("# nothing\n", "is empty; it should hold keys such as cluster, resources and queues (see fleet init)"),
    ("- a\n", "holds a list; it should hold keys such as cluster, resources and queues (see fleet init)"),
    ("hello", "holds a text; it should hold keys such as cluster, resources and queues (see fleet init)"),
    ("12", "holds a number; it should hold keys such as cluster, resources and queues (see fleet init)"),
    ("a: [1", "line 1: not YAML: expected ',' or ']', but got '<stream end>'"),
    ("a: b\n c: d", "line 2: not YAML: mapping values are not allowed here"),
    ("a:\n\t- b", "line 2: not YAML: found character '\\t' that cannot start any token"),
    ("a: *b", "line 1: not YAML: found undefined alias 'b'"),
    ("a: !!python/object:os.system x", "line 1: not YAML: could not determine a constructor for the tag"),
    ("{[1, 2]: 3}", "line 1: not YAML: found unhashable key"),
    ("a: 1\n---\nb: 2", "line 2: not YAML: but found another document"),
    ("a: 2026-99-99", "not YAML: month must be in 1..12"),
    ("a: \x00", "not YAML: "),
    ("[" * 3000, "nested too deeply"),
    ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
    ("x" * 2_000_000, "more than 1000000 characters are no fleet file"),
]


@pytest.mark.parametrize(("line", "expected"), TOP)
def test_a_wrong_line_at_the_top_is_named(line: str, expected: str) -> None:
    assert problems(GOOD + line + "\n") == [f"fleet.yaml: {expected}"]


@pytest.mark.parametrize(("keys", "expected"), RESOURCE)
def test_a_wrong_resource_is_named(keys: str, expected: str) -> None:
    reach = "advertise_url: https://fleet.lab\n"
    (problem,) = problems(GOOD.replace("resources:\n", f"resources:\n  odd: {{{keys}}}\n", 1) + reach)
    assert problem.startswith("fleet.yaml: resources.odd.")
    assert expected in problem


@pytest.mark.parametrize(("name", "keys", "expected"), QUEUE)
def test_a_wrong_queue_is_named(name: str, keys: str, expected: str) -> None:
    assert problems(f"{GOOD}  {name}: {{{keys}}}\n") == [f"fleet.yaml: {expected}"]


@pytest.mark.parametrize(("text", "expected"), WHOLE, ids=[str(i) for i in range(len(WHOLE))])
def test_a_text_that_is_no_fleet_file_is_one_line(text: str, expected: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith(f"fleet.yaml: {expected}")
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["Lab", "a_b", "-a", "a-", "x" * 41, "a b", "ä"])
def test_a_cluster_is_a_name_that_every_cloud_takes_as_a_tag(name: str) -> None:
    expected = "fleet.yaml: cluster: a name of 1 to 40 small letters, digits and -, as research"
    assert problems(GOOD.replace("cluster: lab", f"cluster: {name!r}")) == [expected]


@pytest.mark.parametrize("key", ["cluster", "resources", "queues"])
def test_a_key_that_must_be_there_is_missed(key: str) -> None:
    rest = GOOD.split("\n")
    start = next(i for i, line in enumerate(rest) if line.startswith(key))
    end = next((i for i, line in enumerate(rest[start + 1 :], start + 1) if line[:1] not in (" ",)), len(rest))
    assert f"fleet.yaml: {key}: is missing" in problems("\n".join(rest[:start] + rest[end:]))


def test_all_that_is_wrong_is_said_at_once() -> None:
    text = """\
cluster: LAB
poll: 2s
resources:
  gpu: {provider: local, gpus: 4, idle_timout: 3m}
queues:
  big: {resources: [gpu], gpus: 8}
  q: {resources: [cpu]}
"""
    assert problems(text) == [
        "fleet.yaml: cluster: a name of 1 to 40 small letters, digits and -, as research",
        "fleet.yaml: resources.gpu.idle_timout: unknown key; did you mean idle_timeout?",
        "fleet.yaml: queues.q: a queue's name has at least 3 characters: the server refuses shorter ones",
        "fleet.yaml: poll: unknown key; known are advertise_url, agent, budget, cluster, fairness, identity, listen, "
        "on_shutdown, poll_interval, queues, resources, server, starvation_after, state_dir, store, tls, wait_usd_per_hour",
        "fleet.yaml: queues.big: needs 8 GPUs; the largest of its resources (gpu) has 4",
        "fleet.yaml: queues.q.resources: no resource is called cpu; did you mean gpu?",
    ]


def test_a_key_that_is_given_twice_is_named_with_both_lines() -> None:
    text = GOOD + "  train: {resources: [cpu], gpus: 0, gpus: 1}\n"
    assert "fleet.yaml: queues.train: given twice, in lines 6 and 7; keep one" in problems(text)
    assert "fleet.yaml: queues.train.gpus: given twice, in lines 7 and 7; keep one" in problems(text)


@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ("{usd_per_dya: 2}", "usd_per_dya: unknown key; did you mean usd_per_day?"),
        ("{usd_per_day: lots}", "usd_per_day: expected US dollars, as 80 or 2.50, got 'lots'"),
        ("{when_spent: sotp}", "when_spent: expected hold, drain or stop, got 'sotp'; did you mean stop?"),
        ("{per_user: {}}", "per_user: unknown key; did you mean usd_per_hour?"),
        ("{usd_per_day: 2, usd_per_month: 1}", "usd_per_month: is 1, less than one day of usd_per_day=2"),
    ],
)
def test_a_wrong_budget_of_a_queue_is_refused(budget: str, problem: str) -> None:
    text = GOOD.replace("{resources: [gpu]}", f"{{resources: [gpu], budget: {budget}}}")
    assert problems(text) == [f"fleet.yaml: queues.train.budget.{problem}"]


def test_more_instances_kept_than_the_budget_allows_is_refused() -> None:
    text = GOOD.replace("gpus: 4", "gpus: 4, min_instances: 3") + "budget: {max_instances: 2}\n"
    expected = "fleet.yaml: budget.max_instances: is 2, but the resources' min_instances are 3 together"
    assert problems(text) == [expected]


IN_A_CLOUD = GOOD.replace("cpu: {provider: local, gpus: 0}", "cpu: {provider: aws}")


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ("", "advertise_url"),
        (
            "advertise_url: https://fleet.lab\nserver: {advertise_url: 'http://127.0.0.1:8765'}\n",
            "server.advertise_url",
        ),
    ],
)
def test_machines_in_a_cloud_must_be_able_to_call_home(lines: str, key: str) -> None:
    assert problems(IN_A_CLOUD + lines) == [
        f"fleet.yaml: {key}: machines of cpu (aws) cannot call http://127.0.0.1:8765; "
        "give a URL of this host that they reach"
    ]


def test_an_address_that_cannot_be_read_is_not_taken_for_the_default_one() -> None:
    expected = "fleet.yaml: advertise_url: environment variable NOT_SET is not set"
    assert problems(IN_A_CLOUD + "advertise_url: ${NOT_SET}\n") == [expected]


def test_a_secret_is_in_no_message() -> None:
    text = GOOD + "server: {url: 'hunter2 x', access_key: [hunter2], secret_key: 2}\nadvertise_url: 'hunter2 z'\n"
    assert not any("hunter2" in problem for problem in problems(text))


@pytest.mark.parametrize(
    ("provider", "fix"),
    [("gcp", "list them under regions"), ("aws", "make a resource of each, and name them all in the queue")],
)
def test_several_regions_are_said_in_another_way(provider: str, fix: str) -> None:
    text = GOOD.replace("{provider: local, gpus: 4}", f"{{provider: {provider}, region: [a, b]}}")
    assert f"fleet.yaml: resources.gpu.region: expected one; several: {fix}" in problems(text)
