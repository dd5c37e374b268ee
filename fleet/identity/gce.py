"""Google Compute Engine: the identity token of a virtual machine, in the format `full`.

Source: Compute Engine documentation, "Verify the identity of a VM" (claims, format=full, issuer); the keys are those of
Google's OpenID configuration.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import urllib3
from urllib3.exceptions import HTTPError

from fleet.errors import IdentityError, IdentityUnknown
from fleet.identity.proofs import SKEW, is_fresh
from fleet.model import Instance
from fleet.wire import Proof

KEYS = "https://www.googleapis.com/oauth2/v3/certs"
ISSUERS = ["https://accounts.google.com", "accounts.google.com"]
MOST_BYTES = 64 * 1024
TIMEOUT = urllib3.Timeout(connect=3.0, read=5.0)
FRESH_S = 3600.0
# A stranger's token may name any key: for a new one Google is asked this often at most.
ASK_EVERY_S = 60.0


class Keys:
    """Google's signing keys, which it changes every few days. Safe to share between threads."""

    def __init__(self, url: str = KEYS) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at: float | None = None

    def find(self, name: str) -> jwt.PyJWK | None:
        """The key of this name; None: Google has none.

        Raises:
            IdentityUnknown: Google does not answer.
        """
        with self._lock:
            age_s = time.monotonic() - self._asked_at if self._asked_at is not None else None
            if age_s is None or age_s > FRESH_S or (name not in self._keys and age_s > ASK_EVERY_S):
                self._keys = self._fetch()
                self._asked_at = time.monotonic()
            return self._keys.get(name)

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        try:
            answer = self._pool.request(
                "GET", self._url, timeout=TIMEOUT, retries=False, redirect=False, preload_content=False
            )
            body = answer.read(MOST_BYTES)
            answer.close()
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            found = [jwt.PyJWK(key) for key in json.loads(body)["keys"]]
        except (HTTPError, OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise IdentityUnknown(f"Google's keys cannot be had from {self._url} ({error}); come again") from error
        return {str(key.key_id): key for key in found}


class Gce:
    """Checks tokens that were made for us."""

    def __init__(self, audience: str, keys: Keys) -> None:
        """`audience`: the dispatcher's address, as machines know it. A token for anybody else is worth nothing here."""
        self._audience, self._keys = audience, keys

    def check(self, proof: Proof, instance: Instance, cloud_id: str, at: datetime) -> None:
        if proof.kind != "gce":
            raise IdentityError(f"it brings a proof of kind {proof.kind[:20]!r}, not of Google Compute Engine")
        claims = self._claims(proof.text)
        said = claims.get("google", {}).get("compute_engine", {}) if isinstance(claims.get("google"), dict) else {}
        names = {"project_id": 3, "zone": 2, "instance_name": 1}  # where it stands in our id of the machine
        parts = cloud_id.split("/")
        wanted = {name: parts[-place] for name, place in names.items() if place <= len(parts)}
        for name, value in wanted.items():
            if not isinstance(said, dict) or said.get(name) != value:
                told = str(said.get(name))[:60] if isinstance(said, dict) else "nothing"
                raise IdentityError(f"Google says that its {name} is {told!r}, not {value!r}")
        began = said.get("instance_creation_timestamp")
        if not isinstance(began, int) or not is_fresh(
            datetime.fromtimestamp(min(max(began, 0), 2**34), UTC), instance, at
        ):
            raise IdentityError(f"Google says that it was created at {str(began)[:20]}, long before it was asked for")

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            name = str(jwt.get_unverified_header(token).get("kid"))
            key = self._keys.find(name)
            if key is None:
                raise IdentityError(f"a token that is signed by a key that Google does not have ({name[:40]!r})")
            return jwt.decode(
                token,
                key.key,
                algorithms=["RS256"],
                audience=self._audience,
                issuer=ISSUERS,
                leeway=SKEW,
                options={"require": ["exp", "iat", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            raise IdentityError(f"a token that Google did not make for this dispatcher ({error})") from error
