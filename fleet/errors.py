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
    """A cloud did not do what was asked."""


class NoCapacity(ProviderError):
    """This offer is sold out now. Back off this offer (type, zone, market); try the next at once."""


class QuotaExceeded(ProviderError):
    """The account may not start more of this family. Skip the family until an operator raises the quota."""


class NotAuthorised(ProviderError):
    """The cloud does not accept our credentials. Stop launching there and tell the operator."""


class Throttled(ProviderError):
    """Too many calls. Slow down and repeat the same call with the same token."""


class BadRequest(ProviderError):
    """The resource is described wrongly (image, subnet, type). Repeating does not help; tell the operator."""


class UnknownProviderFault(ProviderError):
    """None of the above. It may be passing: repeat with growing delay."""


class AgentUnusable(FleetError):
    """No task can run on this machine: the agent's mode, version or python is not there. End it; an operator must act."""


class AgentRefused(FleetError):
    """A task asks for a container that is not allowed or not there. No machine will do better; its user must change it."""


class StoreError(FleetError):
    """The fleet's memory (SQLite or PostgreSQL) could not be read or written."""


class NotLeading(StoreError):
    """Another dispatcher holds the lead of this cluster. Do not act; it may end, so ask again later."""
