"""Whatever AWS answers, or does not, ends in one of our classes: on one line, without a leak and without a second machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import (
    BadRequest,
    NoCapacity,
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownProviderFault,
)
from fleet.model import Resource
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.base import Launched, LaunchOrder
from tests.providers.aws.conftest import a_provider, alive, aws_resource, client
from tests.providers.aws.ec2 import NS, Answer, Ec2, Fault, an_id, refusal
from tests.providers.aws.test_launching import orders
from tests.providers.contract import failure_of, is_one_line

pytestmark = pytest.mark.xdist_group("aws")

ENCODED = "You are not authorized to perform this operation. Encoded authorization failure message: " + "A1b2" * 300

# Code, message, HTTP status, our class, a word of the fix. Source: "Error codes for the Amazon EC2 API" (EC2 Developer Guide).
CODES: list[tuple[str, str, int, type[ProviderError], str]] = [
    (
        "InsufficientInstanceCapacity",
        "We currently do not have sufficient g5.xlarge capacity",
        500,
        NoCapacity,
        "zones",
    ),
    ("InsufficientHostCapacity", "no host", 400, NoCapacity, "zones"),
    ("SpotMaxPriceTooLow", "Your Spot request price of 0.1 is lower than", 400, NoCapacity, "max_spot_usd_per_hour"),
    ("Unsupported", "Your requested instance type is not supported in your zone", 400, NoCapacity, "zone"),
    ("InsufficientFreeAddressesInSubnet", "no addresses", 400, NoCapacity, "subnet"),
    ("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded", 400, QuotaExceeded, "Service Quotas"),
    (
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your limit of 0",
        400,
        QuotaExceeded,
        "Service Quotas",
    ),
    ("InstanceLimitExceeded", "too many", 400, QuotaExceeded, "Service Quotas"),
    ("VolumeLimitExceeded", "too much disk", 400, QuotaExceeded, "Service Quotas"),
    ("NetworkInterfaceLimitExceeded", "too many", 400, QuotaExceeded, "Service Quotas"),
    ("PendingVerification", "Your account is currently being verified", 400, QuotaExceeded, "verifying"),
    ("RequestLimitExceeded", "Request limit exceeded.", 503, Throttled, "later"),
    ("Throttling", "Rate exceeded", 400, Throttled, "later"),
    ("ThrottlingException", "Rate exceeded", 400, Throttled, "later"),
    ("UnauthorizedOperation", ENCODED, 403, NotAuthorised, "aws-dispatcher-policy.json"),
    ("AccessDenied", "no", 403, NotAuthorised, "aws-dispatcher-policy.json"),
    ("AuthFailure", "AWS was not able to validate the provided access credentials", 401, NotAuthorised, "credentials"),
    (
        "InvalidClientTokenId",
        "The security token included in the request is invalid",
        403,
        NotAuthorised,
        "credentials",
    ),
    ("ExpiredToken", "The security token included in the request is expired", 400, NotAuthorised, "log in again"),
    ("ExpiredTokenException", "expired", 400, NotAuthorised, "log in again"),
    ("RequestExpired", "Request has expired.", 400, NotAuthorised, "clock"),
    ("SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than", 403, NotAuthorised, "clock"),
    ("InvalidSignatureException", "Signature not yet current", 403, NotAuthorised, "clock"),
    ("OptInRequired", "You are not subscribed to this service", 401, NotAuthorised, "region"),
    ("Blocked", "This account is currently blocked", 403, NotAuthorised, "support"),
    ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "no", 403, NotAuthorised, "create-service-linked-role"),
    ("InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", 400, BadRequest, "`image`"),
    ("InvalidAMIID.Malformed", "no", 400, BadRequest, "`image`"),
    ("InvalidSubnetID.NotFound", "no", 400, BadRequest, "`subnets`"),
    ("InvalidGroup.NotFound", "no", 400, BadRequest, "`security_groups`"),
    ("InvalidKeyPair.NotFound", "no", 400, BadRequest, "`key_name`"),
    ("InvalidIamInstanceProfile.NotFound", "no", 400, BadRequest, "`iam_instance_profile`"),
    ("InvalidInstanceType", "no", 400, BadRequest, "`instance_types`"),
    ("InvalidBlockDeviceMapping", "Volume of size 8GB is smaller than snapshot", 400, BadRequest, "disk_gib"),
    ("InvalidParameterValue", "Value (x) for parameter y is invalid", 400, BadRequest, "key"),
    ("InvalidParameterCombination", "no", 400, BadRequest, "key"),
    ("MissingParameter", "no", 400, BadRequest, "key"),
    ("VPCIdNotSpecified", "No default VPC for this user", 400, BadRequest, "subnets"),
    ("DefaultSubnetDoesNotExistInAvailabilityZone", "no", 400, BadRequest, "subnets"),
    ("UnsupportedOperation", "no", 400, BadRequest, "key"),
    ("InternalError", "An internal error has occurred", 500, UnknownProviderFault, "again"),
    ("InternalFailure", "no", 500, UnknownProviderFault, "again"),
    ("ServiceUnavailable", "no", 503, UnknownProviderFault, "again"),
    ("Unavailable", "no", 503, UnknownProviderFault, "again"),
    ("SomethingOfNextYear", "no", 400, UnknownProviderFault, "again"),
]


@pytest.fixture(autouse=True)
def no_fault_is_left(aws: Ec2) -> Iterator[None]:
    yield
    aws.always = None
    aws.faults.clear()


Shop = tuple[AwsProvider, LaunchOrder]


@pytest.mark.parametrize(("code", "message", "status", "kind", "fix"), CODES, ids=[row[0] for row in CODES])
def test_each_code_of_ec2_has_its_class_and_its_fix(
    aws: Ec2, shop: Shop, code: str, message: str, status: int, kind: type[ProviderError], fix: str
) -> None:
    provider, order = shop
    before = len(aws.started)
    aws.always = Fault(instead=refusal(code, message, status))
    error = failure_of(lambda: provider.launch([replace(order, instance=an_id())]))
    assert isinstance(error, kind)
    assert type(error) is kind or kind is UnknownProviderFault
    assert code in str(error)
    assert fix in str(error)
    assert is_one_line(error)
    assert "A1b2A1b2" not in str(error)
    assert len(aws.started) == before


def whole(inside: str) -> Answer:
    return Answer(
        body=f'<RunInstancesResponse xmlns="{NS}"><instancesSet>{inside}</instancesSet></RunInstancesResponse>'.encode()
    )


BROKEN: dict[str, Answer] = {
    "nothing": Answer(),
    "a blank": Answer(body=b" "),
    "half of it": Answer(body=b"<RunInstancesResponse><instancesSet><item><instanceId>i-"),
    "less than its length": Answer(body=b"<RunInstancesResponse/>", breaks_off=True),
    "json": Answer(body=b'{"Instances": []}'),
    "a page of a proxy": Answer(body=b"<html><body>Login</body></html>"),
    "a page of a proxy, 200, not closed": Answer(body=b"<html><br><p>Login"),
    "bytes": Answer(body=bytes(range(256))),
    "utf-16": Answer(body="<RunInstancesResponse/>".encode("utf-16")),
    "an entity": Answer(body=b'<!DOCTYPE x [<!ENTITY a "b">]><RunInstancesResponse>&c;</RunInstancesResponse>'),
    "no instances": whole(""),
    "an instance without anything": whole("<item/>"),
    "an instance without an id": whole("<item><amiLaunchIndex>0</amiLaunchIndex></item>"),
    "an instance without an index": whole("<item><instanceId>i-1</instanceId></item>"),
    "an index that is a word": whole("<item><instanceId>i-1</instanceId><amiLaunchIndex>first</amiLaunchIndex></item>"),
    "an id that is none": whole("<item><instanceId>volume</instanceId><amiLaunchIndex>0</amiLaunchIndex></item>"),
    "an empty id": whole("<item><instanceId/><amiLaunchIndex>0</amiLaunchIndex></item>"),
    "a time that is none": whole(
        "<item><instanceId>i-1</instanceId><amiLaunchIndex>0</amiLaunchIndex><launchTime>yesterday</launchTime></item>"
    ),
    "500 without a body": Answer(status=500),
    "500 of a gateway": Answer(status=502, body=b"<html>Bad Gateway</html>"),
    "503 in words": Answer(status=503, body=b"try later"),
    "504 in json": Answer(status=504, body=b'{"message": "timed out"}', kind="application/json"),
    "400 without a code": Answer(status=400, body=b"<Response><Errors><Error/></Errors></Response>"),
    "400 of another service": Answer(status=400, body=b"<ErrorResponse><Error><Code>X</Code></Error></ErrorResponse>"),
    "400 cut": Answer(status=400, body=b"<Response><Errors><Error><Code>Insuff"),
    "a redirect": Answer(status=301, body=b""),
    "an informal success": Answer(status=204),
    "a teapot": Answer(status=418, body=b"<Response/>"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_that_is_broken_is_asked_for_again(aws: Ec2, shop: Shop, broken: Answer) -> None:
    """The call took effect, and what comes back says nothing: the same orders again find the machine."""
    provider, order = shop
    order = replace(order, instance=an_id())
    aws.faults.append(Fault(action="RunInstances", after=broken))
    with pytest.raises(UnknownProviderFault) as caught:
        provider.launch([order])
    assert is_one_line(caught.value)
    (answer,) = provider.launch([order])
    assert isinstance(answer, Launched)
    shown = [m.cloud_id for m in provider.list("test") if m.instance == order.instance]
    assert shown == [answer.cloud_id]


LISTS: dict[str, str] = {
    "an instance without a tag": "<item><instanceId>i-1</instanceId><amiLaunchIndex>0</amiLaunchIndex></item>",
    "a state that is missing": "<item><instanceId>i-1</instanceId><tagSet><item><key>fleet:cluster</key><value>test</value></item></tagSet></item>",
    "a time that is missing": "<item><instanceId>i-1</instanceId><amiLaunchIndex>0</amiLaunchIndex><instanceState><name>running</name></instanceState>"
    "<tagSet><item><key>fleet:cluster</key><value>test</value></item></tagSet></item>",
    "a time of another calendar": "<item><instanceId>i-1</instanceId><launchTime>40.13.2026</launchTime></item>",
    "an index of letters": "<item><instanceId>i-1</instanceId><amiLaunchIndex>x</amiLaunchIndex></item>",
}


@pytest.mark.parametrize("inside", LISTS.values(), ids=LISTS.keys())
def test_a_list_that_cannot_be_read_whole_is_none(aws: Ec2, shop: Shop, inside: str) -> None:
    text = (
        f'<DescribeInstancesResponse xmlns="{NS}"><reservationSet><item><instancesSet>{inside}</instancesSet></item>'
        "</reservationSet></DescribeInstancesResponse>"
    )
    aws.faults.append(Fault(action="DescribeInstances", instead=Answer(body=text.encode())))
    with pytest.raises(UnknownProviderFault) as caught:
        shop[0].list("test")
    assert is_one_line(caught.value)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_answer_is_never_taken_for_an_empty_list(aws: Ec2, shop: Shop, broken: Answer) -> None:
    """An empty list means that all machines are gone."""
    aws.always = Fault(instead=broken)
    with pytest.raises(UnknownProviderFault) as caught:
        shop[0].list("test")
    assert is_one_line(caught.value)


@pytest.mark.parametrize("broken", ["half of it", "bytes", "500 of a gateway", "400 cut", "a page of a proxy", "json"])
def test_an_order_to_end_that_was_not_answered_is_to_be_repeated(aws: Ec2, shop: Shop, broken: str) -> None:
    aws.always = Fault(instead=BROKEN[broken])
    with pytest.raises(UnknownProviderFault) as caught:
        shop[0].terminate(["i-0123456789abcdef0"])
    assert is_one_line(caught.value)


def test_nobody_who_listens_is_a_fault_that_may_pass(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(UnknownProviderFault) as caught:
        a_provider(tmp_path, resource).offers(resource, datetime.now(UTC))
    assert is_one_line(caught.value)


def test_without_credentials_it_says_where_they_are_looked_for(
    ec2: Ec2, provider: AwsProvider, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotAuthorised, match="AWS_ACCESS_KEY_ID"):
        provider.offers(resource, datetime.now(UTC))


def test_a_profile_that_does_not_exist_is_named(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"profile": "nobody"})
    with pytest.raises(NotAuthorised, match="nobody"):
        a_provider(tmp_path, resource).offers(resource, datetime.now(UTC))


def test_a_role_is_taken_on_before_anything_is_asked(ec2: Ec2, tmp_path: Path) -> None:
    resource = aws_resource(ec2, settings={"role_arn": "arn:aws:iam::123456789012:role/fleet"})
    assert a_provider(tmp_path, resource).offers(resource, datetime.now(UTC))
    assert ec2.calls[0] == "sts:AssumeRole"


def test_one_bad_id_does_not_save_the_others(ec2: Ec2, provider: AwsProvider, resource: Resource) -> None:
    """EC2 ends all machines of a call, or none."""
    answers = provider.launch(orders(provider, resource, [an_id() for _ in range(7)]))
    ids = [a.cloud_id for a in answers if isinstance(a, Launched)]
    client(ec2).modify_instance_attribute(InstanceId=ids[3], DisableApiTermination={"Value": True})
    with pytest.raises(BadRequest, match=ids[3]):
        provider.terminate([*ids[:2], "i-0123456789abcdef0", *ids[2:], "none-such"])
    assert [m["InstanceId"] for m in alive(ec2)] == [ids[3]]
