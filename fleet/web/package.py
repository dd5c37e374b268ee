"""What a stock machine fetches at its first boot: scripts, units, and fleet itself. It holds no secret, and wants no token: a machine
trusts it because it comes from the dispatcher whose certificate it has pinned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route


def package_routes(package: Callable[[], Path] | None) -> tuple[Route, ...]:
    """One route."""

    async def hand_out(_request: Request) -> Response:
        if package is None:
            raise HTTPException(404, "this centre has no package for machines")
        return FileResponse(await run_in_threadpool(package), media_type="application/gzip")

    return (Route("/edge/v1/package", hand_out, methods=["GET"]),)
