"""EC2 over HTTP: moto, with a thin layer in front that does what moto leaves out, as the documents of AWS say, and what tests ask for.

- ClientToken of RunInstances, with IdempotentParameterMismatch ("Ensuring idempotency in Amazon EC2 API requests", EC2 Developer Guide)
- MinCount and MaxCount against a capacity by (type, zone, market), InsufficientInstanceCapacity as HTTP 500 ("Error codes for the Amazon EC2
  API"); a machine that exists keeps its token, as long as an hour after its end
- CreateFleet of type instant: the pools in the order of their prices, of which moto knows only the first, with an error for each that was
  refused, and the machine made as the launch template says ("Configure an EC2 Fleet of type instant", EC2 User Guide)
- Service Quotas, the price list and capacity reservations, of which moto has none
- faults: an answer instead, an answer that is lost after the call took effect, a hang, garbage
- the record of every action that was called, for the test of the IAM policy
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import requests
from moto.ec2.models import amis
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.providers.aws.fleet_calls import asked_of, fleet_answer
from tests.waiting import PATIENCE

NS = "http://ec2.amazonaws.com/doc/2016-11-15/"
ENDED = {"terminated", "shutting-down"}
IMAGE = "ami-12c6146b"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What goes over the wire. `breaks_off`: the body is shorter than its head says."""

    status: int = 200
    body: bytes = b""
    kind: str = "text/xml"
    breaks_off: bool = False


def refusal(code: str, message: str = "no", status: int = 400) -> Answer:
    """An error as EC2 writes it."""
    text = f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>r</RequestID></Response>"
    return Answer(status=status, body=text.encode())


@dataclass(kw_only=True)
class Fault:
    """`instead`: the call has no effect. `after`: it has, and this is what the caller hears. `hangs`: it hears nothing."""

    action: str = "*"
    instead: Answer | None = None
    after: Answer | None = None
    hangs: bool = False


@dataclass
class Ec2:
    """The server, and what a test tells it."""

    url: str = ""
    faults: deque[Fault] = field(default_factory=deque)  # one for each call of their action, in order
    always: Fault | None = None
    capacity: dict[tuple[str, str, str], int] = field(default_factory=dict)  # (type, zone or subnet, market) -> left
    refusals: dict[tuple[str, str, str], str] = field(default_factory=dict)  # the same pools -> what CreateFleet says
    templates: dict[str, dict[str, str]] = field(default_factory=dict)  # launch templates, as they were asked for
    quotas: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)  # type -> US dollars an hour in the price list
    spot_prices: list[dict[str, Any]] | None = None
    calls: list[str] = field(default_factory=list)  # "ec2:RunInstances"
    started: list[dict[str, str]] = field(
        default_factory=list
    )  # parameters of each RunInstances that started something
    made: list[dict[str, str]] = field(default_factory=list)  # parameters of calls that make or tag something else
    ever: set[str] = field(default_factory=set)  # actions over all tests
    after: Callable[[str], None] = lambda action: None  # told of each call when it has taken effect, before its answer
    released: threading.Event = field(default_factory=threading.Event)
    _tokens: dict[str, tuple[dict[str, str], bytes]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _moto: Any = None

    def forget(self) -> None:
        """As if it were new. Machines and images go too."""
        self.released.set()
        self.released = threading.Event()
        self.always = None
        requests.post(f"{self.url}/moto-api/reset", timeout=30 * PATIENCE)
        for part in (
            self.faults,
            self.capacity,
            self.refusals,
            self.templates,
            self.made,
            self.quotas,
            self.prices,
            self.calls,
            self.started,
            self._tokens,
        ):
            part.clear()
        self.spot_prices = None

    def count(self, action: str) -> int:
        return self.calls.count(action)

    # --- the layer

    def app(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        service, action, parameters = _what(environ, body)
        name = f"{service}:{action}"
        with self._lock:
            if service != "moto":
                self.calls.append(name)
                self.ever.add(name)
                if action in ("CreateTags", "CreateImage", "CreateKeyPair", "CreateSecurityGroup"):
                    self.made.append(parameters)
            fault = self._fault(action) if service != "moto" else None
        if fault and fault.hangs:
            self.released.wait(60)
        answer = fault.instead if fault and fault.instead else None
        if answer is None:
            answer = self._own(service, action, parameters, environ, body)
        self.after(action)
        if fault and fault.after:
            answer = fault.after
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.body) * (2 if answer.breaks_off else 1))),
        ]
        start(f"{answer.status} X", headers)
        return [answer.body]

    def _fault(self, action: str) -> Fault | None:
        if self.always:
            return self.always
        if self.faults and self.faults[0].action in ("*", action):
            return self.faults.popleft()
        return None

    def _own(
        self, service: str, action: str, parameters: dict[str, str], environ: dict[str, Any], body: bytes
    ) -> Answer:
        if (service, action) == ("ec2", "RunInstances"):
            with self._lock:
                return self._run_instances(parameters, environ)
        if (service, action) == ("ec2", "CreateLaunchTemplate") and parameters.get("DryRun") != "true":
            self.templates[parameters["LaunchTemplateName"]] = parameters
        if (service, action) == ("ec2", "CreateFleet"):
            with self._lock:
                return self._create_fleet(parameters, environ)
        if (service, action) == ("servicequotas", "GetServiceQuota"):
            return self._quota(json.loads(body))
        if (service, action) == ("pricing", "GetProducts"):
            return self._products(json.loads(body))
        if (service, action) == ("ec2", "DescribeSpotPriceHistory") and self.spot_prices is not None:
            return self._spot_history()
        if action == "DescribeInstances" and parameters.get("Filter.1.Name") == "client-token":
            return self._of_token(parameters, environ)
        return self._pass_on(environ, body)

    def _of_token(self, parameters: dict[str, str], environ: dict[str, Any]) -> Answer:
        """moto does not know this filter."""
        _, answer = self._tokens.get(parameters["Filter.1.Value.1"], ({}, b""))
        ids = dict.fromkeys(re.findall(rb"<instanceId>([^<]+)<", answer)) or [b"i-none"]
        asked = {f"InstanceId.{n}": id.decode() for n, id in enumerate(ids, 1)}
        kept = {key: value for key, value in parameters.items() if not key.startswith(("Filter", "MaxResults"))}
        return self._pass_on(environ, urlencode(kept | asked).encode())

    def _run_instances(self, parameters: dict[str, str], environ: dict[str, Any]) -> Answer:
        if parameters.get("DryRun") == "true":
            return self._pass_on(environ, urlencode(parameters).encode())
        token = parameters.get("ClientToken", "")
        if known := self._known(parameters):
            return known
        wanted = int(parameters["MaxCount"])
        place = parameters.get("SubnetId") or parameters.get("Placement.AvailabilityZone", "")
        market = parameters.get("InstanceMarketOptions.MarketType", "on-demand")
        pool = (parameters.get("InstanceType", ""), place, market)
        given = min(wanted, self.capacity.get(pool, wanted))
        if given < int(parameters["MinCount"]):
            return refusal("InsufficientInstanceCapacity", f"We do not have {pool[0]} capacity in {place}", 500)
        if pool in self.capacity:
            self.capacity[pool] -= given
        answer = self._pass_on(environ, urlencode({**parameters, "MinCount": str(given)}).encode())
        if answer.status == 200 and token:
            self._tokens[token] = (parameters, answer.body)
            self.started.append(parameters)
        return answer

    def _create_fleet(self, parameters: dict[str, str], environ: dict[str, Any]) -> Answer:
        if parameters.get("DryRun") == "true":
            return refusal("DryRunOperation", "Request would have succeeded", 412)
        if known := self._known(parameters):
            return known
        asked = asked_of(parameters)
        if self._pass_on(environ, urlencode(asked.look).encode()).status != 200:
            return refusal(
                "InvalidLaunchTemplateName.NotFoundException", "The specified launch template does not exist"
            )
        refused, machine, given = [], b"", None
        for pool in sorted(asked.pools, key=lambda pool: self._price(pool)):
            code = self.refusals.get(pool) or ("InsufficientInstanceCapacity" if self.capacity.get(pool, 1) < 1 else "")
            if not code and self._price(pool) > asked.most_usd:
                code = "SpotMaxPriceTooLow"
            if code:
                refused.append((pool, code))
                continue
            started = asked.run(self.templates[asked.template], pool)
            answer = self._pass_on(environ, urlencode(started).encode())
            if answer.status != 200:
                return answer
            found = re.search(rb"<instanceId>([^<]+)<", answer.body)
            assert found
            machine, given = found[1], pool
            if pool in self.capacity:
                self.capacity[pool] -= 1
            self.started.append(started)
            break
        body = fleet_answer(refused, given, machine.decode())
        self._tokens[parameters["ClientToken"]] = (parameters, body)
        return Answer(body=body)

    def _price(self, pool: tuple[str, str, str]) -> float:
        told = [float(p["usd"]) for p in self.spot_prices or () if (p["type"], p["zone"]) == pool[:2]]
        return told[0] if told and pool[2] == "spot" else 0.0

    def _known(self, parameters: dict[str, str]) -> Answer | None:
        """What was answered to this token."""
        token = parameters.get("ClientToken", "")
        if token not in self._tokens:
            return None
        known, answer = self._tokens[token]
        if known != parameters:
            return refusal("IdempotentParameterMismatch", f"The token {token} was used with other parameters")
        return Answer(body=answer)

    def _quota(self, asked: dict[str, str]) -> Answer:
        code = asked["QuotaCode"]
        if code not in self.quotas:
            return _json({"__type": "NoSuchResourceException", "Message": "no such quota"}, 400)
        return _json({"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": self.quotas[code]}})

    def _products(self, asked: dict[str, Any]) -> Answer:
        type_ = next(f["Value"] for f in asked["Filters"] if f["Field"] == "instanceType")
        if type_ not in self.prices:
            return _json({"FormatVersion": "aws_v1", "PriceList": []})
        dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{self.prices[type_]:.10f}"}}
        term = {"OnDemand": {"S.O": {"priceDimensions": {"S.O.D": dimension}}}}
        product = {"product": {"attributes": {"instanceType": type_}}, "terms": term}
        return _json({"FormatVersion": "aws_v1", "PriceList": [json.dumps(product)]})

    def _spot_history(self) -> Answer:
        items = "".join(
            f"<item><instanceType>{p['type']}</instanceType><productDescription>Linux/UNIX</productDescription>"
            f"<spotPrice>{p['usd']}</spotPrice><timestamp>{p['at']}</timestamp><availabilityZone>{p['zone']}</availabilityZone></item>"
            for p in self.spot_prices or ()
        )
        return Answer(
            body=f'<DescribeSpotPriceHistoryResponse xmlns="{NS}"><spotPriceHistorySet>{items}</spotPriceHistorySet>'
            "</DescribeSpotPriceHistoryResponse>".encode()
        )

    def _pass_on(self, environ: dict[str, Any], body: bytes) -> Answer:
        said: dict[str, Any] = {}

        def start(status: str, headers: list[tuple[str, str]], _info: Any = None) -> Any:
            said["status"] = int(status.split()[0])
            said["kind"] = {k.lower(): v for k, v in headers}.get("content-type", "text/xml")
            return lambda _data: None

        inner = {**environ, "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        text = b"".join(self._moto(inner, start))
        return Answer(status=said["status"], body=text, kind=said["kind"])


def _what(environ: dict[str, Any], body: bytes) -> tuple[str, str, dict[str, str]]:
    """Which service, which action, with which parameters: by the signature's scope, and by protocol."""
    scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request", environ.get("HTTP_AUTHORIZATION", ""))
    service = scope[1] if scope else "moto"
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    if target:
        return service, target.rpartition(".")[2], {}
    parameters = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    return service, parameters.get("Action", ""), parameters


def _json(value: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status=status, body=json.dumps(value).encode(), kind="application/x-amz-json-1.1")


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        if type == "error":
            super().log(type, message, *args)


@contextmanager
def served() -> Iterator[Ec2]:
    """On a free port of the loopback, until the end."""
    # Tests use one of the two thousand images, all of which moto makes anew, with disks and snapshots, when it forgets.
    amis.AMIS[:] = [image for image in amis.AMIS if image["ami_id"] == IMAGE]
    amis.environ = {"MOTO_AMIS_PATH": ""}
    ec2 = Ec2(_moto=DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, ec2.app, threaded=True, request_handler=_Quiet)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    ec2.url = f"http://127.0.0.1:{server.server_port}"
    try:
        ec2.forget()  # moto keeps its machines in the process, whichever server they came from
        yield ec2
    finally:
        ec2.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def an_id() -> str:
    """Of an intent: eight hexadecimal digits, as the dispatcher's."""
    return uuid4().hex[:8]
