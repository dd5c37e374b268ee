"""Texts with a unit, as people write them: `90s`, `$80`, `40GiB`, `127.0.0.1:8765`. Each raises ValueError that says what is allowed."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from urllib.parse import urlsplit

UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LONGEST_S = 10 * 365 * 86400


def duration(value: object) -> timedelta:
    """`90s`, `10m`, `24h`, `7d`, `1.5h`, `1h30m`."""
    text = value.strip().lower() if isinstance(value, str) else ""
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,6})?)\s*(ms|[smhdw])\s*", text)
    if not parts or "".join(n + unit for n, unit in parts) != re.sub(r"\s", "", text):
        raise ValueError("a duration has a unit, as 90s, 10m, 24h or 7d")
    seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts)
    if seconds > LONGEST_S:
        raise ValueError("a duration is at most ten years")
    return timedelta(seconds=seconds)


def number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a number")
    return float(value)


def money(value: object) -> float:
    """US dollars: `80`, `$80`, `80 USD`."""
    if isinstance(value, str) and (
        match := re.fullmatch(r"\$?\s*(\d{1,12}(?:\.\d{1,6})?)\s*(?:USD|usd)?", value.strip())
    ):
        return float(match[1])
    try:
        return number(value)
    except ValueError:
        raise ValueError("expected US dollars, as 80 or 2.50") from None


def memory_gib(value: object) -> float:
    """GiB: `40`, `40GiB`, `40G`, `512MiB`."""
    if isinstance(value, str) and (
        match := re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*([gmt])(?:i?b)?", value.strip().lower())
    ):
        return float(match[1]) * {"m": 1 / 1024, "g": 1, "t": 1024}[match[2]]
    try:
        return number(value)
    except ValueError:
        raise ValueError("expected memory in GiB, as 40") from None


def address(value: object) -> tuple[str, int]:
    """`127.0.0.1:8765`, `0.0.0.0:8765`, `[::1]:8765`; port 0 takes a free one."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})", value) if isinstance(value, str) else None
    if not match or int(match[2]) > 65535:
        raise ValueError("expected an address and a port, as 127.0.0.1:8765")
    return match[1].strip("[]"), int(match[2])


def url(value: object) -> str:
    """`http://host:port` or `https://...`, without a slash at its end."""
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or not isinstance(value, str) or re.search(r"\s", value):
        raise ValueError("expected a URL, as https://host:port")
    return value.rstrip("/")
