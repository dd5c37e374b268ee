"""users.* and debug.ping. A user is whoever has credentials; there are no roles."""

from __future__ import annotations

import sqlalchemy as sa

from fleet.server.call import Call, reads
from fleet.server.filters import query_of
from fleet.server.records import Doc
from fleet.server.tables import CREDENTIAL


def get_current_user(call: Call) -> Doc:
    company = {"id": call.identity.company, "name": "fleet"}
    return {"user": {**_user(call.identity.user), "company": company, "role": "admin"}}


def get_all(call: Call) -> Doc:
    names = call.connection.execute(sa.select(CREDENTIAL.c.user).distinct().order_by(CREDENTIAL.c.user)).scalars()
    return {"users": query_of(call).select([_user(name) for name in names])}


def ping(call: Call) -> Doc:
    return {"msg": "pong"}


def _user(name: str) -> Doc:
    return {"id": name, "name": name}


ENDPOINTS = {
    "users.get_current_user": reads(get_current_user),
    "users.get_all": reads(get_all),
    "debug.ping": reads(ping),
}
