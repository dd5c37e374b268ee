"""The dashboard: one page without any data in it, whose script asks the operator API as any other client does."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route


def dashboard_routes() -> tuple[Route, ...]:
    """The page at /. Style and script are put into it here, and nothing else may run in it."""
    static = files("fleet.web") / "static"
    style, script = ((static / name).read_text() for name in ("dashboard.css", "dashboard.js"))
    page = (static / "dashboard.html").read_text().replace("/*style*/", style).replace("/*script*/", script)
    headers = {
        "Content-Security-Policy": (
            f"default-src 'none'; connect-src 'self'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }

    async def dashboard(_request: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    return (Route("/", dashboard),)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
