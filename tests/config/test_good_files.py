"""What a fleet file may say, and what it means."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.config import Config, Embedded, load, parse, peek, starter
from fleet.errors import ConfigError
from fleet.model import Budget, Fairness, GpuNeed, MarketPolicy, Queue, Resource, ServerAccess, WhenSpent

DESIGN = """\
cluster: research
server: {url: embedded}
store: sqlite
listen: 127.0.0.1:8765
advertise_url: https://fleet.lab:8765
poll_interval: 2s
budget: {max_instances: 20, usd_per_hour: 80, usd_per_day: 800, usd_per_month: 9000, when_spent: drain}
agent:
  mode: docker
  image: "nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04"
  version: "3.0.3"
  git: {user: git, token: "${GIT_TOKEN}"}
  storage: {s3: {key: K, secret: "${S3}", buckets: [{bucket: data, key: B, secret: C}]}}
  extra_conf: "agent.pip_version: ${not_ours}"
resources:
  a10-spot:
    provider: aws
    region: us-east-1
    zones: [us-east-1a, us-east-1b]
    instance_types: [g5.xlarge, g6.xlarge]
    market: spot_then_on_demand
    fallback_after: 5m
    blackout: 30m
    image: ami-0abc
    max_instances: 8
    idle_timeout: 10m
  p4d: {provider: aws, region: us-east-1, subnets: [subnet-1], instance_types: [p4d.24xlarge], idle_timeout: auto}
  cpu: {provider: gcp, project: lab, idle_timeout: never, max_lifetime: 24h, boot_timeout: 5m, min_instances: 1}
queues:
  train: {resources: [a10-spot], gpus: 1, priority: 10}
  big:   {resources: [p4d], gpus: 8}
  sweep: {resources: [a10-spot], gpus: 0.5}
  elastic: {resources: [p4d], gpus: 1-4, max_instances: 2}
  prep:  {resources: [cpu], gpus: 0}
  services: {resources: cpu, gpus: 0, slots: 16}
"""
SECRETS = {"GIT_TOKEN": "t0p", "S3": "s3cret"}


def need(low: float, high: float | None = None) -> GpuNeed:
    return GpuNeed(at_least=low, at_most=high if high is not None else low)


def test_the_example_of_the_design_is_read_whole() -> None:
    config = parse(DESIGN, "fleet.yaml", SECRETS)
    assert config.cluster == "research"
    assert config.server == Embedded(advertise_url="https://fleet.lab:8765")
    assert config.budget == Budget(
        max_instances=20, usd_per_hour=80, usd_per_day=800, usd_per_month=9000, when_spent=WhenSpent.DRAIN
    )
    assert config.poll_interval == timedelta(seconds=2)
    assert config.resources == (
        Resource(
            name="a10-spot",
            provider="aws",
            region="us-east-1",
            zones=("us-east-1a", "us-east-1b"),
            instance_types=("g5.xlarge", "g6.xlarge"),
            market=MarketPolicy.SPOT_THEN_ON_DEMAND,
            image="ami-0abc",
            max_instances=8,
            idle_timeout=timedelta(minutes=10),
            fallback_after=timedelta(minutes=5),
            blackout=timedelta(minutes=30),
        ),
        Resource(
            name="p4d",
            provider="aws",
            region="us-east-1",
            instance_types=("p4d.24xlarge",),
            is_idle_auto=True,
            settings={"subnets": ["subnet-1"]},
        ),
        Resource(
            name="cpu",
            provider="gcp",
            min_instances=1,
            idle_timeout=None,
            boot_timeout=timedelta(minutes=5),
            max_lifetime=timedelta(hours=24),
            settings={"project": "lab"},
        ),
    )
    assert config.queues == (
        Queue(name="train", resources=("a10-spot",), need=need(1), priority=10),
        Queue(name="big", resources=("p4d",), need=need(8)),
        Queue(name="sweep", resources=("a10-spot",), need=need(0.5)),
        Queue(name="elastic", resources=("p4d",), need=need(1, 4), max_instances=2),
        Queue(name="prep", resources=("cpu",), need=need(0)),
        Queue(name="services", resources=("cpu",), need=need(0), slots=16),
    )


def test_git_and_storage_become_lines_of_the_agents_configuration() -> None:
    agent = parse(DESIGN, "fleet.yaml", SECRETS).agent
    assert (agent.mode, agent.version) == ("docker", "3.0.3")
    assert agent.extra_conf.splitlines() == [
        'agent.git_user: "git"',
        'agent.git_pass: "t0p"',
        'sdk.aws.s3: {"key": "K", "secret": "s3cret", "credentials": [{"bucket": "data", "key": "B", "secret": "C"}]}',
        "agent.pip_version: ${not_ours}",  # a substitution of clearml.conf is not ours to make
    ]


def test_no_secret_is_in_a_configs_representation() -> None:
    text = DESIGN.replace("{url: embedded}", "{url: 'http://c:8008', access_key: A, secret_key: '${S3}'}")
    shown = repr(parse(text, "fleet.yaml", SECRETS))
    assert [secret for secret in ("t0p", "s3cret") if secret in shown] == []


def test_the_smallest_file_has_sensible_defaults() -> None:
    config = parse("cluster: a\nresources: {gpu: {provider: local}}\nqueues: {train: {resources: gpu}}", "f", {})
    assert config.listen.url == config.advertise_url == "http://127.0.0.1:8765"
    assert config.server == Embedded(advertise_url="http://127.0.0.1:8765")
    assert config.queues[0].need == need(1)
    assert (config.store, config.agent.mode, config.budget) == ("sqlite", "venv", Budget())


@pytest.mark.parametrize(
    ("url", "web", "files"),
    [
        ("http://lab:8008", "http://lab:8080", "http://lab:8081"),
        ("https://api.clear.ml", "https://app.clear.ml", "https://files.clear.ml"),
        ("https://clearml.lab/api/", "https://clearml.lab/api", "https://clearml.lab/api"),
    ],
)
def test_a_server_of_others_has_its_web_and_files_where_clearml_puts_them(url: str, web: str, files: str) -> None:
    text = starter().replace("{url: embedded}", f"{{url: '{url}', access_key: A, secret_key: file:/dev/null}}")
    assert parse(text, "f", {}).server == ServerAccess(
        api_url=url.rstrip("/"), web_url=web, files_url=files, access_key="A", secret_key=""
    )


def test_a_market_may_be_written_with_its_options() -> None:
    text = DESIGN.replace("    fallback_after: 5m\n    blackout: 30m\n", "").replace(
        "market: spot_then_on_demand", "market: {policy: spot_then_on_demand, fallback_after: 5m, blackout: 30m}"
    )
    assert parse(text, "fleet.yaml", SECRETS) == parse(DESIGN, "fleet.yaml", SECRETS)


def test_a_local_resource_has_simulated_or_real_gpus() -> None:
    keys = "gpus: 4, gpu_model: NVIDIA A100, gpu_memory: 40GiB, usd_per_hour: $2.50, cpus: 8"
    text = f"cluster: a\nresources: {{gpu: {{provider: local, {keys}}}, r: {{provider: local, gpus: real}}}}\n"
    first, second = parse(text + "queues: {all: {resources: [gpu, r], gpus: 64}}", "f", {}).resources
    assert first.settings == {
        "gpus": 4,
        "gpu_model": "NVIDIA A100",
        "gpu_memory": 40.0,
        "usd_per_hour": 2.5,
        "cpus": 8,
    }
    assert second.settings == {"gpus": "real"}


def test_a_provider_of_another_package_may_have_any_key() -> None:
    text = (
        "cluster: a\nresources: {x: {provider: fake, region: r, whatever: {a: [1]}}}\nqueues: {train: {resources: [x]}}"
    )
    (resource,) = parse(text, "f", {}).resources
    assert (resource.region, resource.settings) == ("r", {"whatever": {"a": [1]}})


def test_the_starter_passes_its_own_check(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(starter("local"))
    config = load(tmp_path / "fleet.yaml")
    assert [queue.name for queue in config.queues] == ["train", "prep"]


def test_an_unknown_starter_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="no starter is called 'azure'; there are: local"):
        starter("azure")


def test_peeking_reads_the_front_and_looks_up_no_secret(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(DESIGN)
    front = peek(tmp_path / "fleet.yaml")
    assert (front.cluster, str(front.listen), front.advertise_url) == (
        "research",
        "127.0.0.1:8765",
        "https://fleet.lab:8765",
    )


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, expected in (
        ("none.yaml", "No such file or directory; make one with: fleet init"),
        ("binary", "is not text (UTF-8); is it the fleet file?"),
        ("", "Is a directory"),
    ):
        with pytest.raises(ConfigError) as refused:
            load(tmp_path / name)
        assert refused.value.problems == (f"{tmp_path / name}: {expected}",)


def test_reading_needs_neither_pydantic_nor_the_network() -> None:
    code = (
        "import sys, fleet.config; print([m for m in ('pydantic', 'requests', 'urllib3', 'ssl') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


yaml_value = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["10m", "1-4", "gpu"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
known_key = st.sampled_from(
    [
        "cluster",
        "server",
        "store",
        "listen",
        "advertise_url",
        "poll_interval",
        "budget",
        "agent",
        "resources",
        "queues",
        "gpus",
        "provider",
        "market",
        "settings",
        "url",
        "git",
        "storage",
        "s3",
        "buckets",
        "environment",
        "policy",
        "idle_timeout",
        "zones",
    ]
)


@given(st.text(max_size=60))
@settings(max_examples=80, deadline=None)
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    config_or_problems(text)


@given(
    st.dictionaries(
        known_key,
        st.dictionaries(known_key | st.just("gpu"), st.dictionaries(known_key, yaml_value) | yaml_value) | yaml_value,
    )
)
@settings(max_examples=80, deadline=None)
def test_any_yaml_is_a_config_or_a_config_error(data: dict[str, object]) -> None:
    config_or_problems(yaml.safe_dump(data))


def config_or_problems(text: str) -> None:
    try:
        outcome: Config | tuple[str, ...] = parse(text, "f", {})
    except ConfigError as error:
        outcome = error.problems
    if not isinstance(outcome, Config):
        assert outcome
        assert [problem for problem in outcome if not problem.startswith("f: ") or "\n" in problem] == []


def test_queues_and_users_have_budgets_of_their_own() -> None:
    text = """
        cluster: lab
        budget:
          usd_per_day: 80
          when_spent: stop
          per_user: {usd_per_day: $20, max_instances: 2}
          users: {ann: {usd_per_month: 900}}
        resources: {gpu: {provider: local, gpus: 4}}
        queues:
          train: {resources: [gpu], max_instances: 3, budget: {usd_per_hour: 8, usd_per_day: 40, when_spent: drain}}
          sweep: {resources: [gpu]}
    """
    config = parse(text, "fleet.yaml", environment={})
    assert config.budget == Budget(
        usd_per_day=80,
        when_spent=WhenSpent.STOP,
        per_user=Budget(usd_per_day=20, max_instances=2, when_spent=WhenSpent.STOP),
        users={"ann": Budget(usd_per_month=900, when_spent=WhenSpent.STOP)},
        queues={"train": Budget(usd_per_hour=8, usd_per_day=40, when_spent=WhenSpent.DRAIN)},
    )
    assert [q.max_instances for q in config.queues] == [3, None]


SMALL = """\
cluster: lab
resources: {gpu: {provider: local, gpus: 4}}
queues: {train: {resources: [gpu]}}
"""


def test_a_fleet_goes_by_priority_and_lets_nobody_starve_unless_it_says_so() -> None:
    config = parse(SMALL, "fleet.yaml")
    assert (config.fairness, config.starvation_after) == (Fairness.PRIORITY, timedelta(minutes=30))
    assert [(q.weight, q.is_shared_by_users) for q in config.queues] == [(1.0, False)]


@pytest.mark.parametrize(("said", "usd"), [("auto", None), ("$45", 45.0), ("0", 0.0)])
def test_a_fleet_says_what_an_hour_of_waiting_is_worth(said: str, usd: float | None) -> None:
    assert parse(SMALL, "fleet.yaml").wait_usd_per_hour is None
    assert parse(f"{SMALL}wait_usd_per_hour: {said}\n", "fleet.yaml").wait_usd_per_hour == usd


def test_shares_have_weights_and_users() -> None:
    text = SMALL.replace("[gpu]}", "[gpu], weight: 2.5, user_shares: true}")
    config = parse(f"{text}fairness: shares\nstarvation_after: never\n", "fleet.yaml")
    assert (config.fairness, config.starvation_after) == (Fairness.SHARES, None)
    assert [(q.weight, q.is_shared_by_users) for q in config.queues] == [(2.5, True)]


def test_a_resource_says_when_sick_gpus_have_it_replaced_and_which_driver_it_must_have() -> None:
    (usual,) = parse(SMALL, "fleet.yaml").resources
    assert (usual.replace_sick, usual.min_driver) == (0.5, None)
    for text, replace_sick, min_driver in (
        ("replace_sick: 0, min_driver: 550.54.15", 0.0, "550.54.15"),
        ("replace_sick: 0.25, min_driver: '550'", 0.25, "550"),
        ("replace_sick: never, min_driver: 570", None, "570"),
    ):
        (said,) = parse(SMALL.replace("gpus: 4", f"gpus: 4, {text}"), "fleet.yaml").resources
        assert (said.replace_sick, said.min_driver) == (replace_sick, min_driver)
