"""Launch templates that CreateFleet needed: deleted when it is answered, and found by their tag when a dispatcher was killed before."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from fleet.errors import ProviderError
from fleet.providers.aws.access import Access, pages
from fleet.providers.aws.errors import asking
from fleet.providers.aws.request import CLUSTER
from fleet.providers.aws.settings import Place

log = logging.getLogger(__name__)

# Longer than a call and its repetition; a call that is repeated later makes its template anew.
FORGOTTEN_AFTER = timedelta(minutes=15)
LOOK_EVERY = timedelta(minutes=10)


def delete(ec2: Any, name: str) -> None:
    """One that is not needed any more. A failure costs nothing: it is found again by its tag."""
    try:
        with asking(f"delete launch template {name}"):
            ec2.delete_launch_template(LaunchTemplateName=name)
    except ProviderError as error:
        log.info("launch template left over", extra={"template": name, "error": str(error)})


class LeftOver:
    """Looks for those that nobody deleted, now and then."""

    def __init__(self, cluster: str, now: Callable[[], datetime]) -> None:
        self._cluster, self._now = cluster, now
        self._looked_at: dict[Place, datetime] = {}

    def sweep(self, access: Access) -> None:
        """Delete those of this cluster that are old. What goes wrong is logged: it must not hide machines."""
        at = self._now()
        looked_at = self._looked_at.get(access.place)
        if looked_at and at - looked_at < LOOK_EVERY:
            return
        self._looked_at[access.place] = at
        filters = [{"Name": f"tag:{CLUSTER}", "Values": [self._cluster]}]
        try:
            with asking(f"look for launch templates in {access.place.region}"):
                ec2 = access.client("ec2")
                found = pages(ec2, "describe_launch_templates", "LaunchTemplates", Filters=filters)
                old = [str(t["LaunchTemplateName"]) for t in found if at - t["CreateTime"] > FORGOTTEN_AFTER]
        except ProviderError as error:
            log.info("launch templates not seen", extra={"region": access.place.region, "error": str(error)})
            return
        for name in old:
            log.info("launch template of a killed dispatcher", extra={"template": name})
            delete(ec2, name)
