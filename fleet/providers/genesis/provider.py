"""Genesis Cloud: keeps the contract of `Provider` over its REST API, which has neither tags nor client tokens.

What a machine is, its name says: fleet_CLUSTER_INSTANCE_RESOURCE. It is launched so that a shutdown destroys it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlparse

import requests

from fleet.errors import BadRequest, NotAuthorised, ProviderError, Throttled, UnknownProviderFault
from fleet.model import Market, Offer, Resource
from fleet.providers.base import (
    TIME_LIMIT_S,
    Finding,
    Launched,
    LaunchFailed,
    LaunchOrder,
    Machine,
    Surroundings,
)
from fleet.providers.genesis.api import Api, refusal
from fleet.providers.genesis.asked import SETTLED_S, Asked
from fleet.providers.genesis.checks import findings
from fleet.providers.genesis.request import Names, body_of, name_of, who
from fleet.providers.genesis.settings import settings_of, shape_of
from fleet.providers.own_keys import OwnKeys

AT_ONCE = 4
FRESH_FOR = timedelta(minutes=1)  # availability moves by the minute
TOKENS = ("GENESIS_TOKEN", "GENESISCLOUD_TOKEN")  # in the environment, where the fleet file names none

PriceOf = Callable[[Resource, str, str, Market], float | None]


@dataclass(frozen=True, slots=True)
class _Seen:
    at: datetime
    sold_out: frozenset[str]
    error: ProviderError | None = None


class GenesisProvider:
    """One account or several, each by its token."""

    list_lag = timedelta(seconds=30)

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        price_of: PriceOf,
        user_data: Callable[[LaunchOrder], str],
        timeout_s: float = 10.0,
        settled_s: float = SETTLED_S,
    ) -> None:
        self._resources = surroundings.resources
        self._price_of, self._user_data, self._timeout_s = price_of, user_data, timeout_s
        self._asked = Asked(surroundings.directory, settled_s)
        self._apis: dict[tuple[str, str | None], Api] = {}
        self._names: dict[int, Names] = {}
        self._seen: dict[tuple[int, str], _Seen] = {}

    # --- the contract

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        said, api = settings_of(resource), self._api(resource)
        found = []
        for kind in said.types:
            for region in said.regions:
                shape, seen = shape_of(kind), self._availability(api, region, at)
                if seen.error:
                    raise seen.error
                if shape is None or kind in seen.sold_out:
                    continue
                offer = Offer(
                    resource=resource.name,
                    provider="genesis",
                    type=kind,
                    market=Market.ON_DEMAND,
                    price_usd_per_hour=self._price_of(resource, kind, region, Market.ON_DEMAND),
                    gpus=0 if said.is_cpu_only else shape.gpus,
                    gpu_model=None if said.is_cpu_only else shape.gpu_model,
                    gpu_memory_gib=None if said.is_cpu_only else shape.gpu_memory_gib,
                    cpus=shape.cpus,
                    memory_gib=shape.memory_gib,
                    region=region,
                    seen_at=min(at, seen.at),
                )
                found.append(offer)
        return found

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        if not orders:
            return []
        deadline = time.monotonic() + TIME_LIMIT_S - self._timeout_s
        there = {m.instance: m for cluster in {o.cluster for o in orders} for m in self.list(cluster)}
        with ThreadPoolExecutor(min(AT_ONCE, len(orders))) as pool:
            outcomes = list(
                pool.map(lambda order: self._launch_one(order, there.get(order.instance), deadline), orders)
            )
        answers = [outcome for outcome in outcomes if not isinstance(outcome, ProviderError)]
        for outcome in outcomes:
            if isinstance(outcome, ProviderError):
                raise outcome
        return answers

    def list(self, cluster: str) -> Sequence[Machine]:
        found = [m for api in self._everywhere() for m in _machines(api, cluster)]
        return list(self._each_its_own(found))

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        errors = []
        deadline = time.monotonic() + TIME_LIMIT_S - self._timeout_s
        for api in self._everywhere() if cloud_ids else ():
            with ThreadPoolExecutor(min(AT_ONCE, len(cloud_ids))) as pool:
                found = pool.map(lambda cloud_id, api=api: self._destroy(api, cloud_id, deadline), cloud_ids)
                errors += [error for error in found if error]
        if errors:
            raise errors[0]

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        return findings(resource, lambda: self._api(resource))

    # --- accounts

    def _api(self, resource: Resource) -> Api:
        """
        Raises:
            ProviderError: there is no token, or it would go over the wire in the clear.
        """
        keys = OwnKeys(resource)
        token = keys.text("token") or _token()
        if not token:
            raise NotAuthorised(f"no token of Genesis Cloud; set {TOKENS[0]} for the dispatcher, or token: file:/path")
        return self._api_of(token.strip(), keys.text("endpoint_url"))

    def _api_of(self, token: str, endpoint: str | None) -> Api:
        known = self._apis.get((token, endpoint))
        if known is None:
            if endpoint and not _is_private(endpoint):
                raise BadRequest(f"endpoint_url: {endpoint[:80]} would get the token in the clear; give an https URL")
            if not token.isascii() or not token.isprintable():
                raise NotAuthorised("the token of Genesis Cloud has characters that no token has; was it copied whole?")
            session = requests.Session()
            session.headers["Authorization"] = f"Bearer {token}"
            session.trust_env = endpoint is None  # else a netrc file could replace our header
            known = self._apis[token, endpoint] = Api(session, endpoint, self._timeout_s)
        return known

    def _everywhere(self) -> Sequence[Api]:
        """Every account; the one of the environment too, for machines of resources that left the fleet file.

        Raises:
            ProviderError: one of them has no token.
        """
        if not self._resources and (token := _token()):
            return [self._api_of(token, None)]
        return list(dict.fromkeys(self._api(resource) for resource in self._resources))

    # --- offers

    def _availability(self, api: Api, region: str, at: datetime) -> _Seen:
        """What is sold out in a region, at most a minute old; what could not be asked counts as available: the launch will tell."""
        known = self._seen.get((id(api), region))
        if known and at - known.at < FRESH_FOR:
            return known
        try:
            body = api.call("GET", f"availability/{region}/instances", f"question for what is available in {region}")
            seen = _Seen(at, _sold_out(body))
        except (NotAuthorised, BadRequest) as error:
            seen = _Seen(at, frozenset(), error)
        except ProviderError:
            seen = _Seen(at, known.sold_out if known else frozenset())
        self._seen[id(api), region] = seen
        return seen

    # --- launches

    def _launch_one(
        self, order: LaunchOrder, there: Machine | None, deadline: float
    ) -> Launched | LaunchFailed | ProviderError:
        """A ProviderError as answer: nothing is known of this order."""
        if there:
            return Launched(instance=order.instance, cloud_id=there.cloud_id)
        if not self._asked.is_settled(order.instance):
            if answered := self._asked.cloud_id(order.instance):
                return Launched(instance=order.instance, cloud_id=answered)  # the list does not show it yet, or no more
            return UnknownProviderFault(
                f"{order.instance} was asked for a moment ago; it is looked for before it is asked for again"
            )
        if time.monotonic() > deadline:
            return UnknownProviderFault(
                "Genesis Cloud answers too slowly for the whole batch; the rest is asked for again"
            )
        try:
            cloud_id = self._create(order)
        except (Throttled, UnknownProviderFault) as error:
            return error
        except ProviderError as error:
            return LaunchFailed(instance=order.instance, error=error)
        return Launched(instance=order.instance, cloud_id=cloud_id)

    def _create(self, order: LaunchOrder) -> str:
        api, said = self._api(order.resource), settings_of(order.resource)
        names = self._names.setdefault(id(api), Names(api))
        body = body_of(order, said, names, self._user_data(order))
        self._asked.note(order.instance)
        answer = api.answer("POST", "instances", body=body)
        if not answer.is_fine:
            error = refusal(answer, f"launch of {name_of(order)}")
            if not isinstance(error, UnknownProviderFault):  # else nobody has said that nothing will come of it
                self._asked.refused(order.instance)
            raise error
        instance = answer.body.get("instance")
        cloud_id = instance.get("id") if isinstance(instance, Mapping) else None
        if not isinstance(cloud_id, str) or not cloud_id:
            raise UnknownProviderFault(f"Genesis Cloud answered the launch of {name_of(order)} without an id")
        self._asked.note(order.instance, cloud_id)
        return cloud_id

    def _each_its_own(self, machines: Sequence[Machine]) -> Iterator[Machine]:
        """Of two machines of one intent (both calls took effect) one is the intent's; the other is nobody's, so the reaper ends it."""
        by_intent: dict[str, list[Machine]] = {}
        for machine in machines:
            by_intent.setdefault(machine.instance, []).append(machine)
        for instance, mine in by_intent.items():
            answered = self._asked.cloud_id(instance) if len(mine) > 1 else None
            mine.sort(key=lambda m: (m.cloud_id != answered, m.launched_at, m.cloud_id))
            yield mine[0]
            for n, extra in enumerate(mine[1:], 2):
                yield Machine(
                    cloud_id=extra.cloud_id,
                    cluster=extra.cluster,
                    instance=f"{instance}#{n}",
                    resource=extra.resource,
                    launched_at=extra.launched_at,
                )

    def _destroy(self, api: Api, cloud_id: str, deadline: float) -> ProviderError | None:
        if not cloud_id.replace("-", "").isalnum():
            return None  # it never was an id of theirs
        if time.monotonic() > deadline:
            return UnknownProviderFault("Genesis Cloud answers too slowly; the rest is ended at the next pass")
        try:
            answer = api.answer("DELETE", f"instances/{cloud_id}")
        except ProviderError as error:
            return error
        return None if answer.is_fine or answer.status == 404 else refusal(answer, f"end of {cloud_id}")


def _token() -> str | None:
    return next((os.environ[name].strip() for name in TOKENS if os.environ.get(name, "").strip()), None)


def _is_private(endpoint: str) -> bool:
    url = urlparse(endpoint)
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost", "::1"))


def _sold_out(body: Mapping[str, Any]) -> frozenset[str]:
    """
    Raises:
        UnknownProviderFault: it is not what the API documents.
    """
    availability = body.get("availability")
    rows = availability.get("instance_types") if isinstance(availability, Mapping) else None
    if not isinstance(rows, list):
        raise UnknownProviderFault("Genesis Cloud's availability cannot be read: it has no instance_types")
    return frozenset(str(row.get("type")) for row in rows if isinstance(row, Mapping) and row.get("available") is False)


def _machines(api: Api, cluster: str) -> Iterator[Machine]:
    for row in api.everything("instances"):
        said = who(str(row.get("name") or ""))
        if not said or said[0] != cluster:
            continue
        try:
            at = datetime.fromisoformat(str(row["created_at"]))
        except (KeyError, ValueError) as error:
            raise UnknownProviderFault(f"Genesis Cloud's list of machines cannot be read: {error!r:.80}") from error
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        yield Machine(cloud_id=str(row["id"]), cluster=cluster, instance=said[1], resource=said[2], launched_at=at)
