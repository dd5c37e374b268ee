"""A project of Google Cloud and the methods of its API that fleet calls, each with the permissions that it needs.

images/iam/gcp-role.yaml is the sum of these permissions; a test holds it to this table. Document: "Compute Engine API v1", where each
method names its permissions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import google.auth
import requests
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

from fleet.errors import BadRequest, NotAuthorised, UnknownProviderFault
from fleet.providers.gcp.errors import refusal
from fleet.providers.rest import Answer, Rest, Session

COMPUTE = "https://compute.googleapis.com"
PROJECTS = "https://cloudresourcemanager.googleapis.com"
BILLING = "https://cloudbilling.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKEN_WITHIN_S = 10.0
PAGE = 500  # the most that a page may hold
# A page of the price list is some MB that Google has to gather; nobody but `fleet prices refresh` waits for it.
PRICES_TAKE = 6.0

LAUNCHING = (
    "compute.instances.create",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setServiceAccount",
    "compute.instances.setTags",
    "compute.disks.create",
    "compute.disks.setLabels",
    "compute.images.useReadOnly",
    "compute.snapshots.useReadOnly",
    "compute.instanceTemplates.useReadOnly",
    "compute.networks.use",
    "compute.networks.useExternalIp",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of the API."""

    verb: str
    path: str
    permissions: tuple[str, ...]


METHODS = {
    "instances.insert": Method(verb="POST", path="zones/{zone}/instances", permissions=LAUNCHING),
    "regionInstances.bulkInsert": Method(
        verb="POST", path="regions/{region}/instances/bulkInsert", permissions=LAUNCHING
    ),
    "instances.get": Method(verb="GET", path="zones/{zone}/instances/{name}", permissions=("compute.instances.get",)),
    "instances.getSerialPortOutput": Method(
        verb="GET",
        path="zones/{zone}/instances/{name}/serialPort",
        permissions=("compute.instances.getSerialPortOutput",),
    ),
    "instances.delete": Method(
        verb="DELETE", path="zones/{zone}/instances/{name}", permissions=("compute.instances.delete",)
    ),
    "instances.aggregatedList": Method(
        verb="GET", path="aggregated/instances", permissions=("compute.instances.list",)
    ),
    "zoneOperations.get": Method(
        verb="GET", path="zones/{zone}/operations/{name}", permissions=("compute.zoneOperations.get",)
    ),
    "regionOperations.get": Method(
        verb="GET", path="regions/{region}/operations/{name}", permissions=("compute.regionOperations.get",)
    ),
    "machineTypes.get": Method(
        verb="GET", path="zones/{zone}/machineTypes/{name}", permissions=("compute.machineTypes.get",)
    ),
    "machineTypes.aggregatedList": Method(
        verb="GET", path="aggregated/machineTypes", permissions=("compute.machineTypes.list",)
    ),
    "acceleratorTypes.get": Method(
        verb="GET", path="zones/{zone}/acceleratorTypes/{name}", permissions=("compute.acceleratorTypes.get",)
    ),
    "images.get": Method(verb="GET", path="global/images/{name}", permissions=("compute.images.get",)),
    "images.getFromFamily": Method(
        verb="GET", path="global/images/family/{name}", permissions=("compute.images.getFromFamily",)
    ),
    "instanceTemplates.get": Method(
        verb="GET", path="global/instanceTemplates/{name}", permissions=("compute.instanceTemplates.get",)
    ),
    "subnetworks.get": Method(
        verb="GET", path="regions/{region}/subnetworks/{name}", permissions=("compute.subnetworks.get",)
    ),
    "regions.get": Method(verb="GET", path="regions/{region}", permissions=("compute.regions.get",)),
}


# services.skus.list of "Cloud Billing Catalog API v1", of Compute Engine: public, so no permission, but the API has to be enabled.
PRICE_LIST = Method(verb="GET", path="/v1/services/6F81-5844-456A/skus", permissions=())


def all_permissions() -> frozenset[str]:
    """What whoever the dispatcher runs as must be allowed."""
    return frozenset(each for method in (*METHODS.values(), PRICE_LIST) for each in method.permissions)


class Account:
    """One project, and who calls it."""

    def __init__(self, project: str, session: Session, endpoint: str | None = None, timeout_s: float = 10.0) -> None:
        self.project = project
        self._compute = Rest("Google Cloud", endpoint or COMPUTE, session, timeout_s)
        self._projects = Rest("Google Cloud", endpoint or PROJECTS, session, timeout_s)
        self._billing = Rest("Google Cloud", endpoint or BILLING, session, PRICES_TAKE * timeout_s)

    def call(
        self,
        method: str,
        what: str,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        project: str | None = None,
        **parts: str,
    ) -> Mapping[str, Any]:
        """What the method answers. `what`: what it is for, in errors. `project`: another than our own (images, shared VPC).

        Raises:
            ProviderError: as `gcp.errors` has it.
        """
        answer = self.answer(method, query, body, project, **parts)
        if not answer.is_fine:
            raise refusal(answer, what)
        return answer.body

    def answer(
        self,
        method: str,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        project: str | None = None,
        **parts: str,
    ) -> Answer:
        """The same, whatever the answer is.

        Raises:
            ProviderError: there is none.
        """
        how = METHODS[method]
        path = f"/compute/v1/projects/{project or self.project}/{how.path.format(**parts)}"
        return with_credentials(self._compute, how.verb, path, query, body)

    def pages(self, method: str, what: str, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Each page of a list.

        Raises:
            ProviderError: one of them could not be had.
        """
        token: str | None = None
        seen: set[str] = set()
        while True:
            page = self.call(method, what, {**query, "maxResults": PAGE, "pageToken": token})
            yield page
            token = page.get("nextPageToken")
            if token is None or token == "":
                return
            if not isinstance(token, str) or token in seen:
                # Taken for the end, everything after it would be gone.
                raise UnknownProviderFault(
                    f"{what} cannot be read whole: its nextPageToken leads nowhere; it is asked again"
                )
            seen.add(token)

    def price_list(self, query: Mapping[str, Any]) -> Answer:
        """A page of the public price list, whatever the answer is.

        Raises:
            ProviderError: there is none.
        """
        return with_credentials(self._billing, PRICE_LIST.verb, PRICE_LIST.path, query, None)

    def lacking(self, permissions: frozenset[str]) -> frozenset[str]:
        """Those of these permissions that we do not have in the project.

        Raises:
            ProviderError: it cannot be asked.
        """
        path = f"/v1/projects/{self.project}:testIamPermissions"
        answer = with_credentials(self._projects, "POST", path, None, {"permissions": sorted(permissions)})
        if not answer.is_fine:
            raise refusal(answer, "question for permissions")
        granted = answer.body.get("permissions")
        return (
            permissions - frozenset(each for each in granted if isinstance(each, str))
            if isinstance(granted, list)
            else permissions
        )


def with_credentials(rest: Rest, verb: str, path: str, query: Mapping[str, Any] | None, body: object) -> Answer:
    with minding_credentials():
        return rest.call(verb, path, query, body)


@contextmanager
def minding_credentials() -> Iterator[None]:
    """Credentials that cannot be had are an error of ours."""
    try:
        yield
    except TransportError as error:
        raise UnknownProviderFault(f"no token of Google Cloud: {_line(error)}") from error
    except GoogleAuthError as error:
        fix = "mend the credentials, and look whether this machine's clock is right"
        raise NotAuthorised(f"Google Cloud gives no token for these credentials: {_line(error)}; {fix}") from error


def session_of(credentials: str | None, endpoint: str | None) -> tuple[Session, str | None]:
    """A session with these credentials (the JSON of a service account's key), or with the application default ones; and their project.

    An endpoint without TLS gets none: a token in the clear would be anybody's.

    Raises:
        NotAuthorised: there are no credentials, or they cannot be read.
    """
    if endpoint and not endpoint.startswith("https://"):
        return requests.Session(), None
    try:
        if credentials:
            info = json.loads(credentials)
            from_key: Any = service_account.Credentials.from_service_account_info  # it has no hints
            made = from_key(info, scopes=[SCOPE])
            project = made.project_id
        else:
            made, project = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as error:
        fix = "run `gcloud auth application-default login`, or give the dispatcher's machine a service account"
        raise NotAuthorised(f"no credentials of Google Cloud: {_line(error)}; {fix}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise NotAuthorised("credentials: not the JSON of a service account's key; give file:/path of one") from error
    made_session: Any = AuthorizedSession
    return made_session(made, refresh_timeout=TOKEN_WITHIN_S), project


def obtain_token(credentials: str | None) -> None:
    """One token, with these credentials or the application default ones: whether Google takes them at all.

    Raises:
        NotAuthorised: there are none, or Google does not.
        UnknownProviderFault: it cannot be asked.
    """
    session: Any = session_of(credentials, None)[0]
    with minding_credentials():
        session.credentials.refresh(functools.partial(Request(), timeout=TOKEN_WITHIN_S))


def project_named(said: str | None, of_credentials: str | None, resource: str) -> str:
    """
    Raises:
        BadRequest: nobody names one.
    """
    if said or of_credentials:
        return str(said or of_credentials)
    raise BadRequest(f"resources.{resource}.project: is missing, and the credentials name none; give the project's id")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
