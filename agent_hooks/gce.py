"""A machine on Google Cloud deletes itself, with the token that the metadata server gives to its own service account.

The instance needs a service account with the access scope `https://www.googleapis.com/auth/compute` and the permission
`compute.instances.delete`, by a role that is bound on this instance, or under a condition on its name.
Sources: cloud.google.com/compute/docs/metadata/querying-metadata (paths, Metadata-Flavor),
cloud.google.com/compute/docs/access/authenticate-workloads (token), compute/docs/reference/rest/v1/instances/delete.
"""

from __future__ import annotations

import json
import os

import urllib3
from urllib3.exceptions import HTTPError

METADATA_HOST = "metadata.google.internal"  # GCE_METADATA_HOST replaces it, as in Google's own libraries
COMPUTE_URL = "https://compute.googleapis.com/compute/v1"
TIMEOUT = urllib3.Timeout(connect=5.0, read=20.0)
RETRIES = urllib3.Retry(
    total=4,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    raise_on_status=False,
    redirect=False,
)


def delete_self() -> None:
    """Ask Google to delete this instance; it is gone half a minute later.

    Raises:
        OSError: it was not asked, or said no.
    """
    compute = os.environ.get("FLEET_GCE_COMPUTE_URL", COMPUTE_URL).rstrip("/")
    name, zone = _metadata("instance/name"), _metadata("instance/zone").rsplit("/", 1)[-1]
    project = _metadata("project/project-id")
    try:
        token = str(json.loads(_metadata("instance/service-accounts/default/token"))["access_token"])
    except (ValueError, KeyError, TypeError) as error:
        raise OSError("the metadata server gave no token; has this instance a service account?") from error
    where = f"{compute}/projects/{project}/zones/{zone}/instances/{name}"
    _asked("DELETE", where, {"Authorization": f"Bearer {token}"})


def _metadata(path: str) -> str:
    host = os.environ.get("GCE_METADATA_HOST", METADATA_HOST)
    return _asked("GET", f"http://{host}/computeMetadata/v1/{path}", {"Metadata-Flavor": "Google"})


def _asked(method: str, where: str, headers: dict[str, str]) -> str:
    ca_certs = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    try:
        with urllib3.PoolManager(ca_certs=ca_certs) as pool:
            answer = pool.request(method, where, headers=headers, timeout=TIMEOUT, retries=RETRIES)
    except HTTPError as error:
        raise OSError(f"{where}: no answer ({error})") from error
    text = answer.data.decode(errors="replace")
    if answer.status == 404 and method == "DELETE":
        return text  # somebody was faster
    if answer.status >= 300:
        raise OSError(f"{where}: answered {answer.status} {' '.join(text.split())[:300]}")
    return text
