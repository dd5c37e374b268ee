"""Google Cloud's Compute Engine: keeps the contract of `Provider` over its REST API."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.errors import NoCapacity, ProviderError, Throttled, UnknownProviderFault
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
from fleet.providers.gcp.account import Account, project_named, session_of
from fleet.providers.gcp.catalog import Catalog, read_catalog
from fleet.providers.gcp.checks import findings
from fleet.providers.gcp.console import read_console
from fleet.providers.gcp.errors import reasons, refusal
from fleet.providers.gcp.launching import Begun, Outcome, begin, follow
from fleet.providers.gcp.machines import Place, machines, place_of
from fleet.providers.gcp.offers import PriceOf, offers_of
from fleet.providers.gcp.settings import settings_of, wares_of
from fleet.providers.gcp.shapes import Shapes
from fleet.providers.gcp.told import told_prices
from fleet.providers.own_keys import OwnKeys
from fleet.providers.prices import Price, Unpriced

log = logging.getLogger(__name__)

AT_ONCE = 8
# Most launches are decided within this; what takes longer is launched as far as anybody knows, and looked at again in `list`.
OUTCOME_WITHIN_S = 10.0
LATE_FOR = timedelta(minutes=15)
# After a launch that failed late, nobody could be told: so long its pool is not offered.
SOLD_OUT_FOR = timedelta(minutes=5)
CATALOG_FRESH_FOR = timedelta(hours=1)
PROJECTS = "projects.json"

Pool = tuple[str, str | None, str | None, Market]


class GcpProvider:
    """All projects that this fleet has machines in."""

    # A machine is listed as soon as its insert is accepted; the list of all zones follows within seconds.
    list_lag = timedelta(seconds=60)

    def __init__(
        self,
        surroundings: Surroundings,
        *,
        price_of: PriceOf,
        user_data: Callable[[LaunchOrder], str],
        timeout_s: float = 10.0,
        outcome_within_s: float = OUTCOME_WITHIN_S,
    ) -> None:
        self._directory: Path = surroundings.directory
        self._resources = {r.name: r for r in surroundings.resources}
        self._price_of, self._user_data = price_of, user_data
        self._timeout_s, self._outcome_within_s = timeout_s, outcome_within_s
        self._accounts: dict[str, Account] = {}  # by project
        self._of_resource: dict[str, Account] = {}
        self._shapes: dict[str, Shapes] = {}
        self._catalog: tuple[datetime, Catalog] | None = None  # the same for everybody
        self._late: dict[str, tuple[Begun, datetime]] = {}
        self._sold_out: dict[Pool, datetime] = {}

    # --- the contract

    def offers(self, resource: Resource, at: datetime) -> Sequence[Offer]:
        account = self._account(resource)
        found = offers_of(resource, settings_of(resource), self._known_shapes(account), self._price_of, at)
        self._sold_out = {pool: until for pool, until in self._sold_out.items() if until > at}
        return [offer for offer in found if _pool(offer) not in self._sold_out]

    def launch(self, orders: Sequence[LaunchOrder]) -> Sequence[Launched | LaunchFailed]:
        if not orders:
            return []
        began, outcomes = time.monotonic(), dict[str, Begun | Outcome]()
        self._remember({self._account(order.resource).project for order in orders})
        deadline = began + TIME_LIMIT_S - self._timeout_s
        with ThreadPoolExecutor(min(AT_ONCE, len(orders))) as pool:
            started = list(pool.map(lambda order: self._begin(order, deadline), orders))
            bound = min(time.monotonic() + self._outcome_within_s, deadline)
            ended = pool.map(lambda s: follow(s, bound) if isinstance(s, Begun) else s, started)
            outcomes = dict(zip([order.instance for order in orders], ended, strict=True))
        return [self._answer(outcomes[order.instance]) for order in orders]

    def list(self, cluster: str) -> Sequence[Machine]:
        found = [machine for account in self._everywhere() for machine in machines(account, cluster)]
        self._look_at_late_ones()
        return found

    def terminate(self, cloud_ids: Sequence[str]) -> None:
        places = [place for place in map(place_of, cloud_ids) if place]
        if not places:
            return
        deadline = time.monotonic() + TIME_LIMIT_S - self._timeout_s
        with ThreadPoolExecutor(min(AT_ONCE, len(places))) as pool:
            errors = [error for error in pool.map(lambda place: self._delete(place, deadline), places) if error]
        if errors:
            raise errors[0]

    def check(self, resource: Resource, at: datetime) -> Sequence[Finding]:
        return findings(resource, lambda: self._account(resource), self._price_of)

    def prices(self, resource: Resource, at: datetime) -> Sequence[Price | Unpriced]:
        """What Google says now, for `fleet prices refresh`. An image and what else a launch needs may still be missing."""
        account, said = self._account(resource), wares_of(resource)
        if self._catalog is None or at - self._catalog[0] > CATALOG_FRESH_FOR:
            self._catalog = at, read_catalog(account, at)
        return list(told_prices(said, self._known_shapes(account), self._catalog[1], at))

    def console(self, cloud_id: str) -> str | None:
        """The end of its serial port, without what looks like a secret; None: there is none."""
        place = place_of(cloud_id)
        return read_console(self._account_of_project(place.project), place) if place else None

    # --- accounts

    def _known_shapes(self, account: Account) -> Shapes:
        return self._shapes.setdefault(account.project, Shapes(account))

    def _account(self, resource: Resource) -> Account:
        """
        Raises:
            ProviderError: no credentials, no project.
        """
        known = self._of_resource.get(resource.name)
        if known is None:
            keys = OwnKeys(resource)
            endpoint = keys.text("endpoint_url")
            session, of_credentials = session_of(keys.text("credentials"), endpoint)
            project = project_named(keys.text("project"), of_credentials, resource.name)
            known = Account(project, session, endpoint.rstrip("/") if endpoint else None, self._timeout_s)
            self._of_resource[resource.name] = known
            self._accounts.setdefault(project, known)
        return known

    def _everywhere(self) -> Iterator[Account]:
        """Every project that a machine of ours may be in: also of resources that have left the fleet file."""
        for resource in self._resources.values():
            self._account(resource)
        for project in self._remembered() - self._accounts.keys():
            self._accounts[project] = self._account_of_project(project)
        yield from self._accounts.values()

    def _account_of_project(self, project: str) -> Account:
        if project not in self._accounts:
            endpoints = {OwnKeys(r).text("endpoint_url") for r in self._resources.values()}
            endpoint = endpoints.pop() if len(endpoints) == 1 else None
            session, _ = session_of(None, endpoint)
            self._accounts[project] = Account(project, session, endpoint, self._timeout_s)
        return self._accounts[project]

    def _remembered(self) -> set[str]:
        try:
            said = json.loads((self._directory / PROJECTS).read_text())
        except FileNotFoundError:
            return set()
        except (OSError, ValueError) as error:
            fix = "remove it when no machine of this fleet runs in Google Cloud any more"
            raise UnknownProviderFault(f"{self._directory / PROJECTS} cannot be read: {error}; {fix}") from error
        return {str(project) for project in said} if isinstance(said, list) else set()

    def _remember(self, projects: set[str]) -> None:
        """Before the first call: a project that nobody remembers would never be looked at again."""
        known = self._remembered()
        if projects <= known:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = self._directory / f"{PROJECTS}.part"
            part.write_text(json.dumps(sorted(known | projects)))
            part.replace(self._directory / PROJECTS)
        except OSError as error:
            raise UnknownProviderFault(
                f"{self._directory} cannot be written, so nothing is launched: {error}"
            ) from error

    # --- launches

    def _begin(self, order: LaunchOrder, deadline: float) -> Begun | Outcome:
        if time.monotonic() > deadline:
            return UnknownProviderFault(
                "Google Cloud answers too slowly for the whole batch; the rest is asked for again"
            )
        try:
            account = self._account(order.resource)
            return begin(order, settings_of(order.resource), account, self._user_data(order))
        except (Throttled, UnknownProviderFault) as error:
            return error
        except ProviderError as error:
            return LaunchFailed(instance=order.instance, error=error)

    def _answer(self, outcome: Begun | Outcome) -> Launched | LaunchFailed:
        """
        Raises:
            ProviderError: nothing is known of this order, so the whole batch is repeated; the others answer as they did.
        """
        if isinstance(outcome, ProviderError):
            raise outcome
        if not isinstance(outcome, Begun):
            return outcome
        if outcome.zone is None:
            raise UnknownProviderFault(f"the {outcome.what} is still under way; asked again at the next pass")
        self._late[outcome.order.instance] = (outcome, datetime.now(UTC))
        return outcome.launched(outcome.zone)

    def _look_at_late_ones(self) -> None:
        """Launches whose outcome was not known in time. A failed one is in no list: here it is said why."""
        at = datetime.now(UTC)
        for instance, (begun, since) in list(self._late.items())[:5]:
            found = follow(begun, deadline=0.0)
            if isinstance(found, LaunchFailed):
                fields = {"instance": instance, "error": str(found.error)}
                log.warning("launch failed after it was answered", extra=fields)
                if isinstance(found.error, NoCapacity):
                    self._sold_out[_pool(begun.order.offer)] = at + SOLD_OUT_FOR
            if not isinstance(found, Begun) or at - since > LATE_FOR:
                del self._late[instance]

    def _delete(self, place: Place, deadline: float) -> ProviderError | None:
        if time.monotonic() > deadline:
            return UnknownProviderFault("Google Cloud answers too slowly; the rest is ended at the next pass")
        try:
            answer = self._account_of_project(place.project).answer(
                "instances.delete", zone=place.zone, name=place.name
            )
        except ProviderError as error:
            return error
        is_gone = answer.status == 404 or "resourceNotReady" in reasons(answer)  # it ends already
        return None if answer.is_fine or is_gone else refusal(answer, f"end of {place.name}")


def _pool(offer: Offer) -> Pool:
    return offer.type, offer.region, offer.zone, offer.market
