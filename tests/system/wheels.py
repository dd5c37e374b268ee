"""A package of one line, made here: no test shall need the network for one."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

NAME = "a_tiny_package-1.0-py3-none-any.whl"


def a_wheel(place: Path) -> Path:
    """Make it in this directory."""
    path, info = place / NAME, "a_tiny_package-1.0.dist-info"
    files = {
        "a_tiny_package.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: a-tiny-package\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_sha256(text)},{len(text)}\n" for name, text in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(name, text)
    return path


def _sha256(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
