"""Everything that fleet can refuse or fail at, one class for each thing a caller does differently.

    FleetError                  shown to the user as one line, exit code 1
    ├── ConfigError             fix the fleet file (or the flag), nothing was done
    ├── WireError               a message between edge and centre that cannot be read: refuse it
    ├── ServerError             the ClearML API server
    │   ├── ServerUnreachable   no answer, or 503: try again later, nothing is known to have happened
    │   ├── ServerUnauthorised  wrong or missing credentials: stop and tell the operator
    │   └── ServerRefused       it answered no (4xx in the envelope): do not repeat the same call
    ├── CentreError             the dispatcher's own API, as seen by a supervisor or the command line
    │   ├── CentreUnreachable   try again later; the edge goes on without it until its deadline
    │   └── CentreRefused       it answered no; for a supervisor: this machine has no purpose, end it
    ├── IdentityError           a machine that is not the one that was launched: do not let it in
    │   └── IdentityUnknown     who it is cannot be told now: let it come again
    ├── ProviderError           a cloud
    │   ├── NoCapacity          this offer is sold out now: back off this offer, try the next
    │   ├── QuotaExceeded       the account may not have more: skip the family until an operator acts
    │   ├── NotAuthorised       stop launching here and say so loudly
    │   ├── Throttled           slow down, then repeat the same call
    │   ├── BadRequest          the resource is described wrongly: do not repeat, tell the operator
    │   └── UnknownProviderFault  anything else: repeat with growing delay, it may be passing
    ├── AgentUnusable           this machine cannot run agents as it is told to: end it, an operator must act
    ├── AgentRefused            this task asks for what no agent of ours does: fail it, its user must act
    └── StoreError              the fleet's own memory
        └── NotLeading          another dispatcher holds the lead of this cluster: do not act

The text of each names the thing, the cause and the next step, on one line.
"""

from __future__ import annotations


class FleetError(Exception):
    """Something that the user should read as one line: what, why, what to do next."""


class ConfigError(FleetError):
    """The fleet file or a flag is wrong. `problems` lists every one of them; nothing was done."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class WireError(FleetError):
    """A message between edge and centre cannot be read. Refuse it; the sender is of another version or broken."""


class IdentityError(FleetError):
    """A machine is not the one that it says, or cannot prove it. Do not let it in; the text says what the cloud says of it."""


class IdentityUnknown(IdentityError):
    """Whether it is the one cannot be told now. Let it come again."""


class ServerError(FleetError):
    """The ClearML API server could not do what was asked."""


class ServerUnreachable(ServerError):
    """No answer, or 'not now' (503). Repeat later; whether the call took effect is unknown."""


class ServerUnauthorised(ServerError):
    """The server does not know these credentials. Repeating does not help; an operator must act."""


class ServerRefused(ServerError):
    """The server understood and said no. `code` and `subcode` are the envelope's numbers (400/110: wrong status)."""

    def __init__(self, text: str, code: int = 400, subcode: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.subcode = subcode


class CentreError(FleetError):
    """The dispatcher's API could not do what was asked."""


class CentreUnreachable(CentreError):
    """No answer from the dispatcher. A supervisor goes on alone; a person looks whether it runs."""


class CentreRefused(CentreError):
    """The dispatcher said no. A supervisor that is refused ends its machine."""


class ProviderError(FleetError):
    """A cloud did not do what was asked. What the dispatcher does next is said at each class."""


class NoCapacity(ProviderError):
    """This offer is sold out now, and nothing was started. The offer (type, zone, market) is left alone for 30 s, doubling to 30 min
    (a spot offer of a mixed resource: for its `blackout`), and the next offer is tried in the same pass."""


class QuotaExceeded(ProviderError):
    """The account may not have more of this family. The whole family in this region and market is left alone, by every resource,
    for 10 min, doubling to 30 min; the operator is told at once, since nobody else can raise a quota."""


class NotAuthorised(ProviderError):
    """The cloud does not accept our credentials, or they may not do this. Intents are given up, nothing is launched at this provider
    until they work again (one machine may try, after 1 min, doubling to 30 min), and the operator is told at once."""


class Throttled(ProviderError):
    """Too many calls. The provider is left alone for 5 s, doubling to 2 min; then the same call is repeated with the same token."""


class BadRequest(ProviderError):
    """The resource is described wrongly (image, subnet, type). Intents are given up, the offer is left alone for 1 min, doubling
    to 30 min, and the operator reads the text: it names the key and the fix."""


class UnknownProviderFault(ProviderError):
    """None of the above, and it may be passing (no network, a time-out, an answer that cannot be read). For a whole batch: nothing is
    known of any order, so the same orders are repeated, 10 s later, doubling to 30 min. For one order: it is given up, nothing was started."""


class AgentUnusable(FleetError):
    """No task can run on this machine: the agent's mode, version or python is not there. End it; an operator must act."""


class AgentRefused(FleetError):
    """A task asks for a container that is not allowed or not there. No machine will do better; its user must change it."""


class StoreError(FleetError):
    """The fleet's memory (SQLite or PostgreSQL) could not be read or written."""


class NotLeading(StoreError):
    """Another dispatcher holds the lead of this cluster. Do not act; it may end, so ask again later."""
