"""What looks like a secret, taken out of a text that a cloud gave us: consoles print what scripts print."""

from __future__ import annotations

import re

TAKEN_OUT = "***"
_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S)
_NAMED = re.compile(
    r"""((?:secret|password|passwd|token|api[_-]?key|access[_-]?key(?:[_-]id)?|credential|authorization)\w*["']?\s*[=:]\s*)"""
    r"""("[^"]*"|'[^']*'|(?:bearer\s+|basic\s+)?[^\s,;&}]+)""",
    re.I,
)
_IN_URL = re.compile(r"(://)[^\s/@:]*:[^\s/@]+@")
_SHAPES = re.compile(
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # key ids of AWS
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}"  # tokens of GitHub
    r"|\bglpat-[\w-]{16,}"  # of GitLab
    r"|\bhf_[A-Za-z0-9]{20,}"  # of Hugging Face
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"  # a JSON web token
    r"|\b[0-9a-fA-F]{32,}\b"  # our own tokens, and hashes
)


def redacted(text: str) -> str:
    """`text` with three stars where a value has the name or the shape of a secret. Rather a hash too many than a key."""
    text = _BLOCK.sub(TAKEN_OUT, text)
    text = _IN_URL.sub(rf"\1{TAKEN_OUT}@", text)
    text = _NAMED.sub(rf"\1{TAKEN_OUT}", text)
    return _SHAPES.sub(TAKEN_OUT, text)
