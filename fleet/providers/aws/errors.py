"""What AWS says -> the class that tells the dispatcher what to do, with the fix in its text.

Source: "Error codes for the Amazon EC2 API" (EC2 Developer Guide), "Common errors" (EC2 API Reference), and botocore's exceptions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from fleet.errors import (
    BadRequest,
    NoCapacity,
    NotAuthorised,
    ProviderError,
    QuotaExceeded,
    Throttled,
    UnknownProviderFault,
)

SOLD_OUT = "AWS has none left there now; other zones, types or the other market may have"
QUOTA = "ask AWS for more (console: Service Quotas, Amazon EC2), or use another family or market"
CLOCK = "set this machine's clock (timedatectl), a signature is good for 5 minutes"
KEYS = "look at the credentials of the dispatcher: aws sts get-caller-identity"
ALLOW = "let the dispatcher's role do it: images/iam/aws-dispatcher-policy.json"
RENEW = "the temporary credentials ran out; log in again (aws sso login), or give the dispatcher a role"
SLOWER = "the same call is repeated a little later"
KEY = "mend this key of the resource"

# Code, or its beginning when it ends in a star -> (class, what to do about it).
CODES: dict[str, tuple[type[ProviderError], str]] = {
    "InsufficientInstanceCapacity": (NoCapacity, SOLD_OUT),
    "InsufficientHostCapacity": (NoCapacity, SOLD_OUT),
    "InsufficientReservedInstanceCapacity": (NoCapacity, SOLD_OUT),
    "InsufficientCapacityOnHost": (NoCapacity, SOLD_OUT),
    "InsufficientCapacity": (NoCapacity, SOLD_OUT),
    "ReservationCapacityExceeded": (NoCapacity, "the capacity reservation is full"),
    "SpotMaxPriceTooLow": (
        NoCapacity,
        "spot costs more there now than max_spot_usd_per_hour, or than was committed for it",
    ),
    "UnfulfillableCapacity": (NoCapacity, SOLD_OUT),
    "InsufficientFreeAddressesInSubnet": (NoCapacity, "the subnet has no free address; name a larger one in subnets"),
    "Unsupported": (NoCapacity, "this zone does not sell this type so; name other zones or types"),
    "InsufficientVolumeCapacity": (NoCapacity, SOLD_OUT),
    "MaxSpotInstanceCountExceeded": (QuotaExceeded, QUOTA),
    "VcpuLimitExceeded": (QuotaExceeded, QUOTA),
    "InstanceLimitExceeded": (QuotaExceeded, QUOTA),
    "SpotInstanceCountExceeded": (QuotaExceeded, QUOTA),
    "PendingVerification": (
        QuotaExceeded,
        "AWS is still verifying the account for this region; it writes a mail when it is done",
    ),
    "VolumeLimitExceeded": (QuotaExceeded, QUOTA),
    "MaxIOPSLimitExceeded": (QuotaExceeded, QUOTA),
    "*LimitExceeded": (QuotaExceeded, QUOTA),
    "RequestLimitExceeded": (Throttled, SLOWER),
    "Throttling*": (Throttled, SLOWER),
    "ThrottlingException": (Throttled, SLOWER),
    "ThrottledException": (Throttled, SLOWER),
    "TooManyRequestsException": (Throttled, SLOWER),
    "EC2ThrottledException": (Throttled, SLOWER),
    "SlowDown": (Throttled, SLOWER),
    "BandwidthLimitExceeded": (Throttled, SLOWER),
    "PriorRequestNotComplete": (Throttled, SLOWER),
    "UnauthorizedOperation": (NotAuthorised, ALLOW),
    "AccessDenied*": (NotAuthorised, ALLOW),
    "AuthFailure*": (NotAuthorised, f"{KEYS}; {CLOCK}"),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (
        NotAuthorised,
        "make the role for spot once: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com "
        "(with allocation_strategy also: ec2fleet.amazonaws.com)",
    ),
    "InvalidClientTokenId": (NotAuthorised, KEYS),
    "UnrecognizedClientException": (NotAuthorised, KEYS),
    "InvalidAccessKeyId": (NotAuthorised, KEYS),
    "MissingAuthenticationToken*": (NotAuthorised, KEYS),
    "IncompleteSignature*": (NotAuthorised, KEYS),
    "SignatureDoesNotMatch": (NotAuthorised, f"{KEYS}; {CLOCK}"),
    "InvalidSignatureException": (NotAuthorised, f"{KEYS}; {CLOCK}"),
    "RequestExpired": (NotAuthorised, CLOCK),
    "RequestTimeTooSkewed": (NotAuthorised, CLOCK),
    "ExpiredToken*": (NotAuthorised, RENEW),
    "OptInRequired": (NotAuthorised, "the account does not use this region or service yet; enable it in the console"),
    "Blocked": (NotAuthorised, "AWS has blocked the account; write to its support"),
    "Invalid*": (BadRequest, KEY),
    "Missing*": (BadRequest, KEY),
    "Malformed*": (BadRequest, KEY),
    "Unknown*": (BadRequest, KEY),
    "ValidationError": (BadRequest, KEY),
    "ValidationException": (BadRequest, KEY),
    "ParameterNotFound": (BadRequest, "no such SSM parameter; mend `image`"),
    "UnsupportedOperation": (BadRequest, KEY),
    "UnsupportedHostConfiguration": (BadRequest, KEY),
    "OperationNotPermitted": (BadRequest, "termination protection is on; turn it off: DisableApiTermination"),
    "SnapshotCopyUnsupported*": (BadRequest, KEY),
    "UserDataMalformed*": (BadRequest, "shorten init_script"),
    "VPCIdNotSpecified": (BadRequest, "the account has no default VPC in this region; name subnets"),
    "VPCResourceNotSpecified": (BadRequest, "this type needs a VPC; name subnets"),
    "DefaultSubnetDoesNotExist*": (BadRequest, "name subnets"),
    "NotExportable": (BadRequest, KEY),
    "NoSuchEntity": (BadRequest, KEY),
    "IdempotentParameterMismatch": (UnknownProviderFault, "the first call is being looked for"),
}
FIXES = {  # beside the fix of their class: which key it is
    "InvalidAMIID": "`image` names no image that this account can see in this region",
    "InvalidSubnet": "`subnets` names one that is not in this region",
    "InvalidGroup": "`security_groups` names one that is not in this subnet's VPC",
    "InvalidSecurityGroup": "`security_groups` names one that is not in this subnet's VPC",
    "InvalidKeyPair": "`key_name` names no key pair of this region",
    "InvalidIamInstanceProfile": "`iam_instance_profile` names none of this account",
    "InvalidInstanceType": "`instance_types` names one that EC2 does not have",
    "InvalidSnapshot": "`disk_snapshot` names none that this account can see in this region",
    "InvalidBlockDeviceMapping": "look at disk_gib (not smaller than the image's snapshot), disk_type and disk_device",
    "InvalidPlacementGroup": "`placement_group` names none of this region",
    "InvalidCapacityReservation": "`capacity_reservation` names none that is active in this region",
}
# What an answer that is no answer makes of botocore's parsers and ours (a time of year 1e999 is a RuntimeError there).
UNREADABLE = (
    *(ResponseParserError, KeyError, TypeError, ValueError, AttributeError, IndexError),
    *(RuntimeError, ArithmeticError, AssertionError),
)
_ENCODED = re.compile(r"Encoded authorization failure message:?\s*\S+")
LONGEST = 320


class AwsFault(UnknownProviderFault):
    """AWS answered with a fault that says nothing of what happened. `code` is its own word, for callers in this room."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@contextmanager
def asking(doing: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes one of our classes. `doing` says what was tried: "launch g5.xlarge in us-east-1a".

    Raises:
        ProviderError: always one of its subclasses; the text names the cause and the fix.
    """
    try:
        yield
    except boto.ClientError as error:
        raise of_answer(error, doing) from error
    except boto.BotoCoreError as error:
        raise of_client(error, doing) from error
    except UNREADABLE as error:
        # An answer that is no answer: truncated, of other types, or of another service.
        text = (
            f"{doing}: AWS' answer cannot be read ({type(error).__name__}: {short(str(error), 80)}); it is asked again"
        )
        raise UnknownProviderFault(text) from error
    except OSError as error:
        raise UnknownProviderFault(f"{doing}: {short(str(error))}; it is tried again") from error


def code_of(error: boto.ClientError) -> str:
    """AWS' own word for it; empty if it gave none."""
    part: Any = error.response.get("Error")
    return str(part.get("Code") or "") if isinstance(part, dict) else ""


def of_answer(error: boto.ClientError, doing: str) -> ProviderError:
    """An answer that says no."""
    code = code_of(error).removeprefix("Client.").removeprefix("Server.")
    part: Any = error.response.get("Error")
    message = str(part.get("Message") or "") if isinstance(part, dict) else ""
    status = _status(error)
    kind, fix = _known(code) or _by_status(status)
    near = next((text for start, text in FIXES.items() if code.startswith(start)), "")
    message = _ENCODED.sub("(the reason is encoded; see CloudTrail)", message)
    said = f"{code}: {short(message)}" if message else code or f"HTTP {status}"
    text = f"{doing}: {said}; {near or fix}"
    return AwsFault(text, code) if kind is UnknownProviderFault else kind(text)


def of_client(error: boto.BotoCoreError, doing: str) -> ProviderError:
    """No answer, or a call that was never made."""
    text = short(str(error))
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError | boto.CredentialRetrievalError):
        fix = "give the dispatcher a role, a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return NotAuthorised(f"{doing}: {text}; {fix}")
    if isinstance(error, boto.ProfileNotFound):
        return NotAuthorised(f"{doing}: {text}; mend `profile`, or make it with: aws configure --profile NAME")
    if isinstance(error, boto.TokenRetrievalError | boto.SSOError | boto.RefreshWithMFAUnsupportedError):
        return NotAuthorised(f"{doing}: {text}; {RENEW}")
    if isinstance(error, boto.ParamValidationError | boto.UnknownParameterError | boto.ValidationError):
        return BadRequest(f"{doing}: {text}; look at launch_spec and the other keys of the resource")
    if isinstance(
        error, boto.NoRegionError | boto.InvalidRegionError | boto.UnknownServiceError | boto.InvalidConfigError
    ):
        return BadRequest(f"{doing}: {text}; mend `region`, `profile` or `endpoint_url`")
    return UnknownProviderFault(f"{doing}: {text}; the network between here and AWS is asked again")


def short(text: str, most: int = LONGEST) -> str:
    """One line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 3] + "..."


def _known(code: str) -> tuple[type[ProviderError], str] | None:
    if code in CODES:
        return CODES[code]
    starts = [k for k in CODES if k.endswith("*") and code.startswith(k[:-1])]
    if starts:
        return CODES[max(starts, key=len)]
    ends = [k for k in CODES if k.startswith("*") and code.endswith(k[1:])]
    return CODES[ends[0]] if ends else None


def _by_status(status: int) -> tuple[type[ProviderError], str]:
    if status == 429:
        return Throttled, SLOWER
    if status in (401, 403):
        return NotAuthorised, KEYS
    return UnknownProviderFault, "it is tried again"


def _status(error: boto.ClientError) -> int:
    part: Any = error.response.get("ResponseMetadata")
    status = part.get("HTTPStatusCode") if isinstance(part, dict) else None
    return status if isinstance(status, int) else 0
