"""Broken answers of AWS, over HTTP: whatever comes back after the call took effect, from each call that the provider makes, ends in an
answer or in one of our errors; no machine is started twice, forgotten, or ended for it (tests.providers.held).
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from moto.ec2.models import ec2_backends

from fleet.model import Resource
from fleet.providers.aws.access import Access
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.aws.settings import Place
from fleet.providers.base import Provider, Surroundings
from tests.providers.aws.conftest import aws_resource, client
from tests.providers.aws.ec2 import Ec2, refusal, served
from tests.providers.breaking import BREAKS, PAGE, Break, Broken, Line, breaking
from tests.providers.held import Cloud, Tracebacks, held_to_the_promises

pytestmark = pytest.mark.xdist_group("aws-broken")

PATIENCE_S = 3.0  # less than breaking.HANG_S, and more than moto needs on a busy machine
KEY = "s3cret-key-of-the-dispatcher-0123456789"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAOFTHETEST",
    "AWS_SECRET_ACCESS_KEY": KEY,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}
# What EC2 sells and how images are called: moto takes seconds for it, and it is always the same.
STEADY = frozenset(
    {"DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "DescribeSubnets", "DescribeImages", "GetParameter"}
    | {"DescribeSecurityGroups", "GetCallerIdentity"}
)


def cut_at(part: float) -> Break:
    return lambda s, b, _: Broken(status=s, body=b[: int(len(b) * part)])


def refused(code: str, message: str, status: int) -> Break:
    """As EC2 writes it; a service of JSON cannot read it, which is one more way to be broken."""
    return lambda s, b, _: Broken(status=status, body=refusal(code, message, status).body)


def rewritten(pattern: bytes, by: bytes) -> Break:
    return lambda s, b, _: Broken(status=s, body=re.sub(pattern, by, b, flags=re.S))


# Of any call. Codes: "Common client error codes" and "Common causes of client errors" (EC2 Developer Guide, "Error codes").
LATE = "Signature expired: 20240101T000000Z is now earlier than 20240101T001500Z (20240101T003000Z - 15 min.)"
ANY: dict[str, Break] = {
    **BREAKS,
    "a tenth": cut_at(0.1),
    "nine tenths": cut_at(0.9),
    "all but its last byte": lambda s, b, _: Broken(status=s, body=b[:-1]),
    "a blank": lambda s, b, _: Broken(status=s, body=b" \n"),
    "json": lambda s, b, _: Broken(status=s, body=b'{"Instances": [{"InstanceId": 7}]}'),
    "utf-16": lambda s, b, _: Broken(status=s, body=b.decode(errors="replace").encode("utf-16")),
    "an entity": lambda s, b, _: Broken(status=s, body=b'<!DOCTYPE x [<!ENTITY a "b">]><Answer>&c;</Answer>'),
    "another answer": lambda s, b, _: Broken(status=s, body=b"<DescribeVpcsResponse><vpcSet/></DescribeVpcsResponse>"),
    "400 and nothing": lambda s, b, _: Broken(status=400),
    "401 and nothing": lambda s, b, _: Broken(status=401),
    "a teapot": lambda s, b, _: Broken(status=418, body=PAGE),
    "500 with its answer": lambda s, b, _: Broken(status=500, body=b),
    "the line is reset": lambda s, b, _: Broken(status=None, resets=True),
    "RequestExpired": refused("RequestExpired", "Request has expired.", 400),
    "AuthFailure": refused("AuthFailure", "AWS was not able to validate the provided access credentials", 401),
    "SignatureDoesNotMatch": refused("SignatureDoesNotMatch", LATE, 403),
    "RequestLimitExceeded": refused("RequestLimitExceeded", "Request limit exceeded.", 503),
    "InternalError": refused("InternalError", "An internal error has occurred", 500),
    "its own words and ours": refused("UnauthorizedOperation", "line one\nline two\r\nline three", 403),
    "a date of the next century": lambda s, b, _: Broken(
        status=s, body=b, headers=(("Date", "Fri, 01 Jan 2100 00:00:00 GMT"),)
    ),
}
# Of machines.
MACHINES: dict[str, Break] = {
    "no ids": rewritten(rb"<instanceId>[^<]*</instanceId>", b""),
    "empty ids": rewritten(rb"<instanceId>[^<]*</instanceId>", b"<instanceId/>"),
    "ids of volumes": rewritten(rb"<instanceId>i-", b"<instanceId>vol-"),
    "an id in an id": rewritten(rb"<instanceId>([^<]*)<", rb"<instanceId><id>\1</id><"),
    "no index": rewritten(rb"<amiLaunchIndex>[^<]*</amiLaunchIndex>", b""),
    "an index that is a word": rewritten(rb"<amiLaunchIndex>[^<]*<", b"<amiLaunchIndex>first<"),
    "an index below zero": rewritten(rb"<amiLaunchIndex>[^<]*<", b"<amiLaunchIndex>-1<"),
    "an index that nobody asked for": rewritten(rb"<amiLaunchIndex>[^<]*<", b"<amiLaunchIndex>7<"),
    "launched in the next century": rewritten(rb"<launchTime>[^<]*<", b"<launchTime>2100-01-01T00:00:00.000Z<"),
    "launched at the epoch": rewritten(rb"<launchTime>[^<]*<", b"<launchTime>1970-01-01T00:00:00.000Z<"),
    "launched yesterday": rewritten(rb"<launchTime>[^<]*<", b"<launchTime>yesterday<"),
    "launched in another calendar": rewritten(rb"<launchTime>[^<]*<", b"<launchTime>40.13.2026<"),
    "no launch time": rewritten(rb"<launchTime>[^<]*</launchTime>", b""),
    "a state of next year": rewritten(rb"<name>(pending|running)</name>", b"<name>hibernating</name>"),
    "a state that is a number": rewritten(rb"<name>(pending|running)</name>", b"<name>16</name>"),
    "no state": rewritten(rb"<instanceState>.*?</instanceState>", b""),
    "no tags": rewritten(rb"<tagSet>.*?</tagSet>", b""),
    "no tag of ours": rewritten(rb"<key>fleet:[^<]*</key>", b"<key>team</key>"),
    "no intent": rewritten(rb"<key>fleet:instance</key>", b"<key>team</key>"),
    "keys without values": rewritten(rb"<value>[^<]*</value>", b""),
    "twice the same": rewritten(rb"<instancesSet>(.*?)</instancesSet>", rb"<instancesSet>\1\1</instancesSet>"),
    "no machines": rewritten(rb"<instancesSet>.*</instancesSet>", b""),
    "machines that are a text": rewritten(rb"<instancesSet>.*?</instancesSet>", b"<instancesSet>two</instancesSet>"),
}
ENDED: dict[str, Break] = {
    "no machines": MACHINES["no machines"],
    "others than asked for": rewritten(rb"<instanceId>i-[^<]*<", b"<instanceId>i-0123456789abcdef0<"),
    "a state of next year": rewritten(rb"<name>[^<]*</name>", b"<name>hibernating</name>"),
    "codes that are words": rewritten(rb"<code>[^<]*</code>", b"<code>ended</code>"),
}
# A machine that CreateFleet says it has started, or why none ("CreateFleet", EC2 API Reference).
FLEETS: dict[str, Break] = {
    "no machine and no error": rewritten(rb"<fleetInstanceSet>.*</fleetInstanceSet>", b""),
    "a machine without an id": rewritten(rb"<instanceIds>.*?</instanceIds>", b"<instanceIds/>"),
    "an id of something else": rewritten(rb"<instanceIds><item>[^<]*<", b"<instanceIds><item>vol-0123456789abcdef0<"),
    "no type": rewritten(rb"<instanceType>[^<]*</instanceType>", b""),
    "another type": rewritten(rb"<instanceType>[^<]*<", b"<instanceType>p5.48xlarge<"),
    "another subnet": rewritten(rb"<subnetId>[^<]*<", b"<subnetId>subnet-0<"),
    "a machine that is a text": rewritten(
        rb"<fleetInstanceSet>.*?</fleetInstanceSet>", b"<fleetInstanceSet>one</fleetInstanceSet>"
    ),
}
# The other calls, each with the worst of ANY.
LOOKS = {
    "offers": (
        *("DescribeInstanceTypes", "DescribeInstanceTypeOfferings", "DescribeSubnets", "DescribeSpotPriceHistory"),
        *("GetProducts", "GetServiceQuota"),
    ),
    "launch": ("GetParameter", "DescribeImages"),
    "check": ("GetCallerIdentity", "DescribeSecurityGroups", "GetParameter", "DescribeKeyPairs", "GetInstanceProfile"),
    "console": ("GetConsoleOutput",),
}
# Of a launch whose pool EC2 chooses; and of names that doctor looks up.
OF_A_FLEET = ("CreateFleet", "CreateLaunchTemplate", "DeleteLaunchTemplate")
HOW_FLEETS_BREAK = (
    *("half", "empty", "null", "the line is cut", "500 and nothing", "503", "429", "404 of a proxy", "hangs"),
    *("a page as a success", "AuthFailure", "another answer", "twisted 0", "twisted 1", "dropped 0", "dropped 1"),
)
WORST = ("half", "a page as a success", "AuthFailure", "twisted 0")
# Said by tests/providers/aws/test_faults.py of launches already.
OF_LAUNCHES = {name: how for name, how in ANY.items() if name not in ("bytes", "json", "utf-16", "an entity", "empty")}
OF_ENDS = {name: how for name, how in ANY.items() if not name.startswith(("dropped", "twisted", "40", "50"))}

CASES: list[tuple[str, str, str, Break]] = [
    *(("launch", "RunInstances", name, how) for name, how in (OF_LAUNCHES | MACHINES).items()),
    *(("list", "DescribeInstances", name, how) for name, how in (ANY | MACHINES).items()),
    *(("terminate", "TerminateInstances", name, how) for name, how in (OF_ENDS | ENDED).items()),
    *((verb, call, name, ANY[name]) for verb, calls in LOOKS.items() for call in calls for name in WORST),
    *(("launch", "CreateFleet", name, how) for name, how in FLEETS.items()),
    *(("launch", "CreateFleet", name, ANY[name]) for name in HOW_FLEETS_BREAK),
    *(("launch", call, name, ANY[name]) for call in OF_A_FLEET[1:] for name in (*WORST, "the line is cut")),
]


@dataclass(frozen=True, kw_only=True)
class Account:
    """One moto for all cases, a line to it, and a provider that has run for long."""

    ec2: Ec2
    line: Line
    plain: Resource
    curious: Resource  # for a launch of it, every call has to be made
    choosing: Resource  # EC2 chooses the pool
    provider: AwsProvider


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with served() as ec2, breaking() as line, pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        ec2.prices["g5.xlarge"] = 1.006
        ec2.quotas.update({"L-DB2E81BA": 64.0, "L-3819A6DF": 64.0})
        at = "2026-01-01T00:00:00.000Z"
        ec2.spot_prices = [{"type": "g5.xlarge", "usd": "0.402", "at": at, "zone": "us-east-1a"}]
        client(ec2, "ssm").put_parameter(Name="/gpu/image", Value="ami-12c6146b", Type="String")
        (subnet, *_) = client(ec2).describe_subnets()["Subnets"]
        (group, *_) = client(ec2).describe_security_groups()["SecurityGroups"]
        line.behind, line.knows = ec2.url, STEADY
        ids = {"subnets": [subnet["SubnetId"]], "security_groups": [group["GroupId"]]}
        plain = aws_resource(ec2, zones=(), settings={"endpoint_url": line.url, **ids})
        client(ec2).create_key_pair(KeyName="k")
        client(ec2, "iam").create_instance_profile(InstanceProfileName="p")
        named = {"key_name": "k", "iam_instance_profile": "p", "disk_gib": 50}
        curious = replace(plain, image="resolve:ssm:/gpu/image", settings={**plain.settings, **named})
        choosing = replace(plain, settings={**plain.settings, "allocation_strategy": "price-capacity-optimized"})
        surroundings = Surroundings(
            cluster="test", directory=tmp_path_factory.mktemp("aws"), resources=(plain, curious, choosing)
        )
        yield Account(
            ec2=ec2,
            line=line,
            plain=plain,
            curious=curious,
            choosing=choosing,
            provider=AwsProvider(surroundings, access=_access),
        )


@functools.cache
def _access(where: Place) -> Access:
    """Clients of boto3 take a second to make; they remember no answers."""
    return Access(where, read_timeout_s=PATIENCE_S)


def backend() -> Any:
    """What moto itself has, behind every line."""
    return ec2_backends["123456789012"]["us-east-1"]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Machines that ended would be looked through at every list of the cases to come; those of a case that failed too."""
    yield
    backend().reservations.clear()


def the_cloud(account: Account, call: str) -> Cloud:
    resource = account.plain if call.endswith("Instances") else account.curious
    if call in OF_A_FLEET:
        resource = account.choosing

    def fresh(place: Path) -> Provider:
        return AwsProvider(Surroundings(cluster="test", directory=place, resources=(resource,)), access=_access)

    def running() -> list[str]:
        living = [m for m in backend().all_instances() if m.state in ("pending", "running")]
        return [tag["value"] for m in living for tag in m.get_tags() if tag["key"] == "fleet:instance"]

    return Cloud(
        line=account.line,
        resource=resource,
        make=lambda _: account.provider,
        make_fresh=fresh,
        alive=running,
        secrets=(KEY,),
    )


@pytest.mark.parametrize(("verb", "call", "name", "how"), CASES, ids=[f"{c}-{n}" for _, c, n, _ in CASES])
def test_aws(account: Account, verb: str, call: str, name: str, how: Break, tmp_path: Path) -> None:
    tracebacks = Tracebacks()
    logging.getLogger("fleet").addHandler(tracebacks)
    try:
        held_to_the_promises(the_cloud(account, call), verb, name, tmp_path, how, call)
    finally:
        logging.getLogger("fleet").removeHandler(tracebacks)
    assert tracebacks.found == []
