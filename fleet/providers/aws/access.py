"""Clients of AWS' services: boto3's own chain of credentials, one session for each place, no hidden retries.

boto3 retries a 500 silently, and EC2 says "no capacity" with a 500: a call is made once here, and the planner decides what next.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.loaders import create_loader

from fleet.providers.aws.errors import asking
from fleet.providers.aws.settings import Place

# Connecting and one answer stay below base.TIME_LIMIT_S together.
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20
PRICING_REGION = "us-east-1"  # the price list is served from few regions, and covers all


class Access:
    """Clients for one place. Safe for threads: clients are, sessions are guarded."""

    def __init__(self, place: Place, read_timeout_s: float = READ_TIMEOUT_S) -> None:
        self.place = place
        self._read_timeout_s = read_timeout_s
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, region: str | None = None) -> Any:
        """A client for `ec2`, `sts`, ...

        Raises:
            NotAuthorised: no such profile.
            BadRequest: the region or the endpoint is none.
        """
        key = (service, region or self.place.region)
        with self._lock, asking(f"reach {service} in {key[1]}"):
            if key not in self._clients:
                self._session = self._session or self._open()
                self._clients[key] = self._make(self._session, *key)
            return self._clients[key]

    def _make(self, session: Any, service: str, region: str) -> Any:
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=self._read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": 1},
            user_agent_extra="fleet",
        )
        return session.client(service, region_name=region, endpoint_url=self.place.endpoint_url, config=config)

    def _open(self) -> Any:
        place = self.place
        core = botocore.session.Session()
        core.register_component("data_loader", _descriptions())
        session = boto3.Session(
            botocore_session=core,
            region_name=place.region,
            profile_name=place.profile,
            aws_access_key_id=place.access_key,
            aws_secret_access_key=place.secret_key,
            aws_session_token=place.session_token,
        )
        return self._assumed(session, place.role_arn) if place.role_arn else session

    def _assumed(self, session: Any, role_arn: str) -> Any:
        """The same, as another role; asked for anew before it runs out."""
        core = session._session
        if core.get_credentials() is None:
            raise NoCredentialsError
        fetcher = AssumeRoleCredentialFetcher(
            client_creator=functools.partial(
                core.create_client, region_name=self.place.region, endpoint_url=self.place.endpoint_url
            ),
            source_credentials=core.get_credentials(),
            role_arn=role_arn,
            extra_args={"RoleSessionName": "fleet-dispatcher"},
        )
        core = botocore.session.Session()
        core.register_component("data_loader", _descriptions())
        core._credentials = DeferredRefreshableCredentials(
            method="assume-role", refresh_using=fetcher.fetch_credentials
        )
        return boto3.Session(botocore_session=core, region_name=self.place.region)


@functools.cache
def _descriptions() -> Any:
    """Of the services: megabytes of JSON, read once for all places."""
    return create_loader()


def pages(client: Any, verb: str, part: str, **parameters: Any) -> list[dict[str, Any]]:
    """Every item of a listing, over all its pages."""
    found: list[dict[str, Any]] = []
    for page in client.get_paginator(verb).paginate(**parameters):
        # A page without it is somebody else's (a proxy's): taken for an empty list, all machines would be gone.
        items = page[part]
        if not isinstance(items, list):
            raise ValueError(f"{part} is no list")
        found += items
    return found
