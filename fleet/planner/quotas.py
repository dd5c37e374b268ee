"""Quotas of clouds, counted as budgets are: on intents, so that nothing is asked for that the account may not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fleet.model import Instance, Offer, Reason


class Quotas:
    """What this fleet holds of each, with what this plan adds."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self._held: Counter[tuple[str, str, str]] = Counter()
        for instance in instances:
            self.add(instance.offer)

    def add(self, offer: Offer) -> None:
        """One more instance of it."""
        if offer.quota:
            self._held[offer.provider, offer.quota.scope, offer.quota.code] += offer.cpus

    def refusal(self, offer: Offer) -> Reason | None:
        """Why the account may not run one more of it; None: it may, as far as is known."""
        quota = offer.quota
        if quota is None:
            return None
        held = self._held[offer.provider, quota.scope, quota.code]
        used = held + quota.others_cpus
        if used + offer.cpus <= quota.cpus:
            return None
        by_others = (
            f", {quota.others_cpus:g} of them by machines that are not this fleet's" if quota.others_cpus else ""
        )
        text = (
            f"quota {quota.code} ({quota.name}) of {quota.cpus:g} vCPUs in {quota.scope} lets no more {offer.type}, which has "
            f"{offer.cpus}: {used:g} are in use{by_others}; {quota.remedy}"
        )
        return Reason(code="quota_exceeded", text=text, limit=f"{quota.code}={quota.cpus:g}")
