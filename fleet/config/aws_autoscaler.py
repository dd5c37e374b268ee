"""ClearML's aws_autoscaler.yaml -> a fleet file that describes the same fleet, without its secrets.

What it means there: each queue has resources of its own, a task gets a whole VM, credentials stand in plain text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fleet.config.formats import plain
from fleet.config.section import Section
from fleet.errors import ConfigError
from fleet.nearest import which

# GPUs of AWS types that have more than one; every other GPU type has one. Only to say what "the whole VM" was.
SEVERAL_GPUS = {
    2: "g3.8xlarge g4ad.8xlarge g5g.16xlarge g5g.metal",
    4: "g3.16xlarge g4ad.16xlarge g4dn.12xlarge p3.8xlarge "
    "g5.12xlarge g5.24xlarge g6.12xlarge g6.24xlarge g6e.12xlarge g6e.24xlarge",
    8: "g4dn.metal g5.48xlarge g6.48xlarge g6e.48xlarge p2.8xlarge p3.16xlarge p3dn.24xlarge "
    "p4d.24xlarge p4de.24xlarge p5.48xlarge p5e.48xlarge p5en.48xlarge",
    16: "p2.16xlarge",
}
GPU_FAMILIES = ("g", "p")
SECRET = re.compile(
    r"""((?:secret|password|passwd|token|api_?key|access_?key|\bkey)\w*["']?\s*[:=]\s*)(?!\$)("[^"]*"|'[^']*'|[^\s,}]+)""",
    re.I,
)
WHOLE = "gpus and slots of each queue: a task got a whole VM there; ask for fewer GPUs, or give more slots, to let tasks share one"
TAKEN_OUT = '"TAKEN-OUT"'
HEAD = """\
# Imported from ClearML's {origin}. Check it with: fleet config check
# Secrets were not copied; set these in the dispatcher's environment (or write file:/path): {names}
# FLEET_ADVERTISE_URL is the URL of the dispatcher as the machines in the cloud reach it.
"""


def import_aws_autoscaler(text: str, origin: str = "aws_autoscaler.yaml") -> str:
    """The text of a fleet file. Comments at its head say what was left out and why.

    Raises:
        ConfigError: it is not such a file, or something in it cannot be meant; `problems` names everything.
    """
    data, problems = plain(text, origin)
    top = Section(data, "", problems, {})
    top.require("hyper_params", "configurations")
    hyper, conf = top.section("hyper_params"), top.section("configurations")
    notes: list[str] = []
    fleet = {
        "cluster": _cluster(hyper, notes),
        "server": {
            "url": "${CLEARML_API_HOST}",
            "access_key": "${CLEARML_API_ACCESS_KEY}",
            "secret_key": "${CLEARML_API_SECRET_KEY}",
        },
        "advertise_url": "${FLEET_ADVERTISE_URL}",
        "agent": _agent(hyper, conf, notes),
        **_resources_and_queues(hyper, conf, notes),
    }
    minutes = hyper.read("polling_interval_time_min", _number, None)
    if minutes is not None:
        notes.append(
            f"polling_interval_time_min: {minutes:g}: fleet looks every 2s, which costs one call for all queues"
        )
    for part in (top, hyper, conf):
        notes += [f"{_path(part, name)}: not known, left out" for name, _ in part.rest()]
    if problems:
        raise ConfigError(*(f"{origin}: {problem}" for problem in problems))
    return written(fleet, origin, notes)


def written(fleet: Mapping[str, Any], origin: str, notes: list[str]) -> str:
    """The text of this fleet file, with the variables that it wants and these notes at its head."""
    body = yaml.dump(fleet, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    names = sorted(set(re.findall(r"\$\{((?:AWS|CLEARML|FLEET|AGENT)_\w+)\}", body)))
    head = HEAD.format(origin=origin, names=", ".join(names))
    return head + "".join(f"# {' '.join(note.split())}\n" for note in notes) + "\n" + body


def _cluster(hyper: Section, notes: list[str]) -> str:
    prefix = hyper.text("workers_prefix", "dynamic_worker")
    name = re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-")[:40].strip("-") or "dynamic-worker"
    if name != prefix:
        notes.append(f"workers_prefix: {prefix}: became the cluster {name}")
    return name


def _agent(hyper: Section, conf: Section, notes: list[str]) -> dict[str, Any]:
    image, *arguments = (hyper.text("default_docker_image", None) or "").split() or [""]
    lines: list[str] = []
    for key in ("extra_clearml_conf", "extra_trains_conf"):
        lines += [_clean(conf, key, notes)] if _is_given(conf, key) else []
    agent: dict[str, Any] = {"mode": "docker", "image": image} if image else {"mode": "venv"}
    if arguments:
        agent["docker"] = {"arguments": " ".join(arguments)}
    user = hyper.text("git_user", None) if _is_given(hyper, "git_user") else None
    if _is_given(hyper, "git_pass"):
        agent["git"] = {"user": user or "git", "token": "${AGENT_GIT_PASS}"}
    elif user:
        agent["git"] = {"user": user}
    if lines:
        agent["extra_conf"] = "\n".join(lines)
    return agent


def _resources_and_queues(hyper: Section, conf: Section, notes: list[str]) -> dict[str, Any]:
    if hyper.anything("cloud_provider") not in (None, "", "AWS", "aws"):
        hyper.wrong("cloud_provider", "only AWS can be imported")
    conf.require("resource_configurations", "queues")
    script = _clean(conf, "extra_vm_bash_script", notes) if _is_given(conf, "extra_vm_bash_script") else None
    common = {**_common(hyper), **({"init_script": script} if script else {})}
    resources = {name: _resource(part, common, notes) for name, part in conf.sections("resource_configurations")}
    queues: dict[str, Any] = {}
    for name, pairs in conf.section("queues").items():
        served = _served(conf, f"queues.{name}", pairs, resources)
        for resource, most in served:
            resources[resource]["max_instances"] = most
        counts = [machine_gpus(resources[resource]) for resource, _ in served] or [1]
        queues[name] = {"resources": [resource for resource, _ in served], **whole_machine(counts)}
    notes.append(WHOLE)
    return {"resources": resources, "queues": queues}


def _common(hyper: Section) -> dict[str, Any]:
    """What all resources share: region, credentials by name, time-outs."""
    common: dict[str, Any] = {"provider": "aws", "region": hyper.text("cloud_credentials_region", None)}
    has_keys = _is_given(hyper, "cloud_credentials_key") | _is_given(hyper, "cloud_credentials_secret")
    if has_keys and not hyper.flag("use_credentials_chain", False):
        common |= {"access_key": "${AWS_ACCESS_KEY_ID}", "secret_key": "${AWS_SECRET_ACCESS_KEY}"}
    if _is_given(hyper, "cloud_credentials_token"):
        common["session_token"] = "${AWS_SESSION_TOKEN}"
    arn, name = hyper.anything("iam_arn"), hyper.anything("iam_name")
    common["iam_instance_profile"] = arn or name or None
    hyper.anything("use_iam_instance_profile")  # read by nobody there either
    for theirs, ours in (("max_idle_time_min", "idle_timeout"), ("max_spin_up_time_min", "boot_timeout")):
        minutes = hyper.read(theirs, _number, None)
        common[ours] = f"{minutes:g}m" if minutes else None
    return common


def _resource(part: Section, common: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    part.require("instance_type", "ami_id")
    zone, subnet = part.text("availability_zone", None), part.text("subnet_id", None)
    read: dict[str, Any] = {
        **common,
        "instance_types": list(part.texts("instance_type")),
        "market": "spot" if part.flag("is_spot", False) else "on_demand",
        "image": part.text("ami_id", None),
        "zones": None if subnet or not zone else re.split(r"[,\s]+", zone),
        "subnets": re.split(r"[,\s]+", subnet) if subnet else None,
        "disk_gib": part.whole("ebs_volume_size", None),
        "disk_type": part.text("ebs_volume_type", None),
        "disk_device": part.text("ebs_device_name", None),
        "disk_snapshot": part.text("ebs_snapshot_id", None) if _is_given(part, "ebs_snapshot_id") else None,
        "key_name": part.text("key_name", None) if _is_given(part, "key_name") else None,
        "security_groups": [group for text in part.texts("security_group_ids") for group in re.split(r"[,\s]+", text)],
        "tags": _tags(part),
        "cpu_only": part.flag("cpu_only", False),
        "monitoring": part.flag("enable_monitoring", False),
        "launch_spec": part.anything("extra_configurations"),
    }
    notes += [f"{_path(part, name)}: not known, left out" for name, _ in part.rest()]
    return {key: value for key, value in read.items() if value not in (None, [], {}, False, "")}


def _served(conf: Section, path: str, pairs: object, resources: Mapping[str, Any]) -> list[tuple[str, int]]:
    """`[[resource, max instances], ...]` of one queue."""
    served = []
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        match pair:
            case [str(name), int(most)] if most > 0 and not isinstance(most, bool):
                if name in resources:
                    served.append((name, most))
                else:
                    conf.wrong(path, f"no resource is called {name}; {which(name, resources)}")
            case _:
                conf.wrong(path, "expected a list of [resource, max instances]")
    return served


def whole_machine(counts: Sequence[int]) -> dict[str, Any]:
    """The keys of a queue whose tasks get a whole machine each, of machines with so many GPUs."""
    low, high = max(min(counts), 1), max(counts)
    if not high:
        return {"gpus": 0, "slots": 1}
    return {"gpus": high if low >= high else f"{low}-{high}"}


def machine_gpus(resource: Mapping[str, Any]) -> int:
    """GPUs of its first type, of AWS."""
    kind = next(iter(resource.get("instance_types", ())), "")
    if resource.get("cpu_only") or not kind.startswith(GPU_FAMILIES):
        return 0
    return next((count for count, kinds in SEVERAL_GPUS.items() if kind in kinds.split()), 1)


def _tags(part: Section) -> dict[str, str]:
    pairs = [pair.partition("=") for text in part.texts("tags") for pair in text.split(",") if pair.strip()]
    return {key.strip(): value.strip() for key, _, value in pairs}


def _clean(part: Section, key: str, notes: list[str]) -> str:
    """A free text without what looks like a secret in it."""
    text = part.text(key, "")
    clean, count = SECRET.subn(lambda match: match[1] + TAKEN_OUT, text)
    if count:
        notes.append(
            f"{_path(part, key)}: {count} secret{'s' if count > 1 else ''} taken out; give storage keys under agent.storage, "
            "as ${NAME}, and let machines have a role"
        )
    return clean


def _is_given(part: Section, key: str) -> bool:
    return part.anything(key) not in (None, "")


def _path(part: Section, name: str) -> str:
    return f"{part.path}.{name}" if part.path else name


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100_000:
        raise ValueError("expected a number of minutes")
    return float(value)


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks, lists of names in one line, no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _list_node(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(list, _list_node)
