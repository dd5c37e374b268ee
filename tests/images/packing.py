"""Packer and its templates, without a cloud."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKER = ROOT / "images" / "packer"
PACKER_MISSING = None if shutil.which("packer") else "no packer here; as root: apt-get install packer"


def quiet(place: Path) -> dict[str, str]:
    """The environment in which Packer asks nobody and writes nowhere but into `place`."""
    return {**os.environ, **switches(place)}


def switches(place: Path) -> dict[str, str]:
    """What makes it so."""
    return {"CHECKPOINT_DISABLE": "1", "PACKER_CONFIG_DIR": str(place), "PACKER_CACHE_DIR": str(place / "cache")}
