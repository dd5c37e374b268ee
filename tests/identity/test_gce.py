"""Identity tokens of Google Compute Engine, against keys that are had over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest

from fleet.errors import IdentityError, IdentityUnknown
from fleet.identity.gce import Gce, Keys
from fleet.wire import Proof
from tests.identity.signed import Google
from tests.web.nouns import an_instance, at

PLACE = "lab/us-west1-b/fleet-i1"


class KeyServer:
    """Google's keys: `says` is the body; None: 500."""

    def __init__(self) -> None:
        self.says: bytes | None = json.dumps(Google().keys()).encode()
        self.asked = 0
        keys = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.asked += 1
                self.send_response(200 if keys.says is not None else 500)
                self.end_headers()
                self.wfile.write(keys.says or b"")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/certs"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[KeyServer]:
    server = KeyServer()
    yield server
    server.close()


def check(server: KeyServer, token: str, gce: Gce | None = None, cloud_id: str = PLACE) -> None:
    gce = gce or Gce("https://fleet", Keys(server.url))
    gce.check(Proof(kind="gce", text=token), an_instance("i1"), cloud_id, at(60))


def test_the_machine_that_was_launched_is_let_in_and_google_is_asked_once(server: KeyServer) -> None:
    gce = Gce("https://fleet", Keys(server.url))
    for _ in range(3):
        check(server, Google().token(), gce)
    assert server.asked == 1


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        ({"instance_name": "fleet-i2"}, "its instance_name is 'fleet-i2', not 'fleet-i1'"),
        ({"zone": "us-east1-b"}, "its zone is 'us-east1-b'"),
        ({"project_id": "other"}, "its project_id is 'other', not 'lab'"),
        ({"instance_creation_timestamp": 1}, "created at 1, long before"),
        ({"instance_creation_timestamp": None}, "created at None"),
        ({"instance_creation_timestamp": 10**30}, "created at 1000"),
    ],
)
def test_another_machine_is_not_let_in(server: KeyServer, machine: dict[str, object], why: str) -> None:
    with pytest.raises(IdentityError) as refused:
        check(server, Google().token(machine=machine))
    assert why in str(refused.value)


def test_a_token_for_somebody_else_or_out_of_date_or_of_nobody_is_refused(server: KeyServer) -> None:
    old = int((datetime.now(UTC) - timedelta(hours=2)).timestamp())
    unsigned = jwt.encode({"aud": "https://fleet"}, "", algorithm="none", headers={"kid": "k1"})
    shared = jwt.encode({"aud": "https://fleet"}, "k" * 32, algorithm="HS256", headers={"kid": "k1"})
    for token in (
        Google().token(audience="https://another.fleet"),
        Google().token(exp=old),
        Google().token(iss="https://evil.example.org"),
        Google(number=3).token(),
        Google(kid="k9").token(),
        Google().token(google={}),
        Google().token(google="x"),
        unsigned,
        shared,
        "not a token",
        "",
    ):
        with pytest.raises(IdentityError) as refused:
            check(server, token)
        assert not isinstance(refused.value, IdentityUnknown)
    with pytest.raises(IdentityError, match="not of Google"):
        Gce("https://fleet", Keys(server.url)).check(Proof(kind="ec2", text=""), an_instance("i1"), PLACE, at(60))


@pytest.mark.parametrize("says", [None, b"", b"{", b"[]", b'{"keys": [{}]}', b'{"keys": 1}', b"x" * 200_000])
def test_while_google_s_keys_cannot_be_had_a_machine_shall_come_again(server: KeyServer, says: bytes | None) -> None:
    server.says = says
    gce = Gce("https://fleet", Keys(server.url))
    with pytest.raises(IdentityUnknown, match=r"keys cannot be had from .*; come again$"):
        check(server, Google().token(), gce)
    server.says = json.dumps(Google().keys()).encode()
    check(server, Google().token(), gce)


def test_strangers_cannot_make_us_ask_google_again_and_again(server: KeyServer) -> None:
    gce = Gce("https://fleet", Keys(server.url))
    for number in range(5):
        with pytest.raises(IdentityError, match="a key that Google does not have"):
            check(server, Google(kid=f"new{number}").token(), gce)
    assert server.asked == 1


def test_a_new_key_is_fetched_a_while_later(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gce = Gce("https://fleet", Keys(server.url))
    check(server, Google().token(), gce)
    server.says = json.dumps(Google(kid="k2", number=5).keys()).encode()
    monkeypatch.setattr("fleet.identity.gce.ASK_EVERY_S", 0.0)
    check(server, Google(kid="k2", number=5).token(), gce)
    assert server.asked == 2
