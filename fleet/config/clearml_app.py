"""What ClearML's autoscaler applications export -> a fleet file that describes the same fleet, without its secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.config.aws_autoscaler import SECRET, TAKEN_OUT, WHOLE, machine_gpus, whole_machine, written
from fleet.config.clearml_form import ALIASES, FORMS, OF_ONE, bare, labels_of
from fleet.errors import ConfigError

PROVIDERS = {"aws": "aws", "gcp": "gcp", "genesis": "genesis"}
SECRETS = {
    "resources.*.access_key": "${AWS_ACCESS_KEY_ID}",
    "resources.*.secret_key": "${AWS_SECRET_ACCESS_KEY}",
    "resources.*.credentials": "${FLEET_GCP_CREDENTIALS}",
    "agent.git.token": "${AGENT_GIT_PASS}",
}
SEVERAL_OF_GOOGLE = {"g2-standard-24": 2, "g2-standard-48": 4, "g2-standard-96": 8}
WITH_GPUS = ("a2-", "a3-", "a4", "g2-", "g4-")  # families of Google's that have theirs built in
LISTS = ("instance_types", "zones", "security_groups", "subnets", "scopes")
MINUTES = ("idle_timeout", "fallback_after", "blackout")
PAIRS = ("tags", "metadata")
SHUTDOWN = {"idle": "idle", "all": "all", "none": "nothing", "nothing": "nothing"}


@dataclass(slots=True)
class _Part:
    """The fields of the form that hold for all, or of one resource, by label; with what nobody knows."""

    path: str
    fields: dict[str, Any] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def is_app(data: Mapping[str, Any]) -> bool:
    """Whether this is an export of an application: at least two names that its forms have."""
    known = {bare(name) for form in FORMS.values() for name in (*form, *ALIASES)}
    return not {"hyper_params", "configurations"} & data.keys() and sum(bare(n) in known for n in _names(data)) >= 2


def import_app(data: Mapping[str, Any], origin: str) -> str:
    """The text of a fleet file; comments at its head name what is not known or has no place here.

    Raises:
        ConfigError: a value cannot be meant, or no queue is watched; `problems` names everything.
    """
    names = {bare(name) for name in _names(data)}
    form = next((f for f, own in OF_ONE.items() if names & {bare(label) for label in own}), "aws")
    common, resources = _Part(""), list[_Part]()
    _collect(data, common, resources, labels_of(form))
    problems: list[str] = []
    notes: list[str] = []
    if not resources:
        resources = [_Part("")]  # a form with one resource
    fleet = _Fleet(form, common, resources, problems, notes).made()
    for part in (common, *resources):
        notes += [f"{name}: not known, left out" for name in part.unknown]
    if problems:
        raise ConfigError(*(f"{origin}: {problem}" for problem in problems))
    return written(fleet, origin, notes)


def _names(data: object) -> Iterator[str]:
    if isinstance(data, Mapping):
        if _pair(data):
            yield str(data["name"])
            return
        for name, value in data.items():
            yield str(name)
            yield from _names(value)
    elif isinstance(data, list):
        for item in data:
            yield from _names(item)


def _pair(data: Mapping[str, Any]) -> bool:
    return {"name", "value"} <= data.keys() and isinstance(data["name"], str)


def _collect(data: Mapping[str, Any], part: _Part, resources: list[_Part], labels: Mapping[str, str]) -> None:
    """Sections of a form are looked through; the items of a list are resources."""
    for name, value in data.items():
        path = f"{part.path}.{name}" if part.path else str(name)
        label = labels.get(bare(str(name)))
        if label:
            part.fields[label] = value
        elif isinstance(value, Mapping):
            inner = {value["name"]: value["value"]} if _pair(value) else value
            _collect(inner, part, resources, labels)
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            if all(_pair(item) for item in value):
                _collect({item["name"]: item["value"] for item in value}, part, resources, labels)
                continue
            for n, item in enumerate(value):
                found = _Part(f"{path}[{n}]")
                _collect(item, found, resources, labels)
                resources.append(found)
        else:
            part.unknown.append(path)


class _Fleet:
    """The fleet file while it is made."""

    def __init__(self, form: str, common: _Part, resources: list[_Part], problems: list[str], notes: list[str]) -> None:
        self.form, self.common, self.parts, self.problems, self.notes = form, common, resources, problems, notes
        self.keys = FORMS[form]

    def made(self) -> dict[str, Any]:
        resources, queues = self._resources()
        top: dict[str, Any] = {
            "cluster": self._cluster(),
            "server": {
                "url": "${CLEARML_API_HOST}",
                "access_key": "${CLEARML_API_ACCESS_KEY}",
                "secret_key": "${CLEARML_API_SECRET_KEY}",
            },
            "advertise_url": "${FLEET_ADVERTISE_URL}",
            "agent": self._agent(),
        }
        if what := self._field(self.common, "on_shutdown"):
            word = next((ours for theirs, ours in SHUTDOWN.items() if theirs in str(what).lower().split()), None)
            top |= {"on_shutdown": word} if word else {}
            if word is None:
                self._wrong("Spin down instances on Autoscaler shutdown", "expected idle or all", what)
        self._tell()
        return {**top, "resources": resources, "queues": queues}

    def _resources(self) -> tuple[dict[str, Any], dict[str, Any]]:
        resources: dict[str, Any] = {}
        queues: dict[str, Any] = {}
        for n, part in enumerate(self.parts, 1):
            said = self._field(part, "resources") or f"resource-{n}"
            name = re.sub(r"[^a-z0-9]+", "-", str(said).lower()).strip("-") or f"resource-{n}"
            name = f"{name}-{n}" if name in resources else name
            resources[name] = {"provider": PROVIDERS[self.form], **self._resource(part)}
            queue = self._field(part, "queues.*.resources")
            if not isinstance(queue, str) or not queue:
                self._wrong("Monitored Queue", f"resource {name} has none", queue)
                continue
            queues.setdefault(queue, {"resources": []})["resources"].append(name)
        for queue in queues.values():
            counts = [
                machine_gpus(resources[name]) if self.form == "aws" else self._gpus(name, resources)
                for name in queue["resources"]
            ]
            queue |= whole_machine(counts)
        self.notes.append(WHOLE)
        return resources, queues

    def _gpus(self, name: str, resources: Mapping[str, Any]) -> int:
        count = self._value(self.parts[list(resources).index(name)], "Number of GPUs")
        resource = resources[name]
        kind = next(iter(resource.get("instance_types", ())), "")
        has_none = self.form == "gcp" and not (resource.get("gpu_type") or kind.startswith(WITH_GPUS))
        if resource.get("cpu_only") or has_none:
            return 0
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            return count
        told = re.search(r"gpu-(\d+)g$", kind)  # a2-highgpu-4g
        return int(told[1]) if told else SEVERAL_OF_GOOGLE.get(kind, 1)

    def _resource(self, part: _Part) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for label, key in self.keys.items():
            value = self._value(part, label)
            if not key.startswith("resources.*.") or value in (None, "", [], {}, False):
                continue
            own = key.removeprefix("resources.*.")
            if own in ("market", "service_account") or label in (
                "Use IAM instance profile",
                "Use full subnet path",
                "Place tags on resources",
            ):
                continue
            if self.form == "genesis" and own == "instance_types":
                self.notes.append(
                    f"{label}: {value}: name the type under instance_types; fleet prices shows those of Genesis Cloud"
                )
                continue
            if label == "Run with Service Account":
                self.notes.append(f"{label}: name the role under role_arn")
                continue
            made[own] = made.get(own, {}) | self._pairs(label, value) if own in PAIRS else self._read(label, key, value)
        is_spot = self._value(part, "Use Spot Instance") or self._value(part, "Use Preemptible Instance")
        falls_back = self._value(part, "Regular Instance Rollback")
        made["market"] = "spot_then_on_demand" if is_spot and falls_back else "spot" if is_spot else "on_demand"
        if account := self._value(part, "Service Account Email"):
            made["service_account"] = account
        elif self._value(part, "Use default service account"):
            made["service_account"] = "default"
        return {key: value for key, value in made.items() if value not in (None, [], {}, "")}

    def _read(self, label: str, key: str, value: Any) -> Any:
        own = key.rpartition(".")[2]
        if key in SECRETS:
            return SECRETS[key]
        if own in LISTS:
            items = value if isinstance(value, list) else re.split(r"[,\s]+", str(value).strip())
            return [str(item) for item in items if item]
        if own in MINUTES:
            minutes = self._number(label, value)
            return f"{minutes:g}m" if minutes else None
        if own in ("max_instances", "disk_gib"):
            count = self._number(label, value)
            return int(count) if count else None
        if own == "launch_spec":
            return self._spec(label, value)
        if own in ("init_script", "extra_conf"):
            return self._clean(label, value)
        return value

    def _agent(self) -> dict[str, Any]:
        image, *arguments = str(self._field(self.common, "agent.image") or "").split() or [""]
        wants_docker = self._value(self.common, "Use docker mode")
        is_docker = bool(image) and wants_docker is not False
        agent: dict[str, Any] = {"mode": "docker", "image": image} if is_docker else {"mode": "venv"}
        if is_docker and arguments:
            agent["docker"] = {"arguments": " ".join(arguments)}
        user = self._field(self.common, "agent.git.user")
        if self._field(self.common, "agent.git.token"):
            agent["git"] = {"user": user or "git", "token": SECRETS["agent.git.token"]}
        elif user:
            agent["git"] = {"user": user}
        if conf := self._field(self.common, "agent.extra_conf"):
            agent["extra_conf"] = self._clean("Additional ClearML Configuration", conf)
        return agent

    def _cluster(self) -> str:
        said = str(
            self._value(self.common, "Workers Prefix")
            or self._value(self.common, "Autoscaler Instance Name")
            or "autoscaler"
        )
        name = re.sub(r"[^a-z0-9]+", "-", said.lower()).strip("-")[:40].strip("-") or "autoscaler"
        if name != said:
            self.notes.append(f"Workers Prefix: {said}: became the cluster {name}")
        return name

    def _tell(self) -> None:
        """What has no place in a fleet file, if the form said it."""
        for label, key in self.keys.items():
            value = self._value(self.common, label)
            if value in (None, "", False, [], {}):
                continue
            if not key or key in ("agent", "agent.storage"):
                why = (
                    "has no key here"
                    if key != "agent.storage"
                    else "not copied; give keys under agent.storage, as ${NAME}"
                )
                self.notes.append(f"{label}: {why}; see docs/configuration.md")
            elif key == "poll_interval":
                self.notes.append(f"{label}: {value}: fleet looks every 2s, which costs one call for all queues")

    # --- single values

    def _value(self, part: _Part, label: str) -> Any:
        """Of the resource, else of all."""
        return part.fields.get(label, self.common.fields.get(label))

    def _field(self, part: _Part, key: str) -> Any:
        found = (self._value(part, label) for label, known in self.keys.items() if known == key)
        return next((value for value in found if value not in (None, "")), None)

    def _number(self, label: str, value: Any) -> float | None:
        try:
            number = float(value) if not isinstance(value, bool) else 0.0
        except (TypeError, ValueError):
            number = 0.0
        if 0 < number < 100_000:
            return number
        self._wrong(label, "expected a number above 0", value)
        return None

    def _pairs(self, label: str, value: Any) -> dict[str, str]:
        if isinstance(value, Mapping):
            return {str(key): str(text) for key, text in value.items()}
        texts = value if isinstance(value, list) else str(value).split(",")
        pairs = [str(text).partition("=") for text in texts if str(text).strip()]
        if not all(sign for _, sign, _ in pairs):
            self._wrong(label, "expected name=text, name=text", value)
        return {key.strip(): text.strip() for key, _, text in pairs}

    def _spec(self, label: str, value: Any) -> Any:
        try:
            spec = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            spec = None
        if not isinstance(spec, Mapping):
            self._wrong(label, "expected the parameters of RunInstances as JSON", None)
        return spec

    def _clean(self, label: str, value: Any) -> str:
        text, count = SECRET.subn(lambda match: match[1] + TAKEN_OUT, str(value))
        if count:
            self.notes.append(f"{label}: {count} secret{'s' if count > 1 else ''} taken out")
        return text

    def _wrong(self, label: str, problem: str, value: Any) -> None:
        shown = f", got {value!r}" if isinstance(value, str | int | float) and len(str(value)) <= 60 else ""
        self.problems.append(f"{label}: {problem}{shown}")
