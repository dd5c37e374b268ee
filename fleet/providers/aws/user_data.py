"""What a machine reads at its first boot. Machines of one call get the same text, so each finds its own line in it by its launch index.

EC2 gives every machine of one RunInstances the same user-data and tags, and numbers them (AmiLaunchIndex). cloud-init renders a
jinja template with what the metadata service says, so no program of ours has to be there first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from fleet.providers.base import LaunchOrder

MOST_BYTES = 16_384  # EC2's limit, before base64
HEAD = "#cloud-config\n"
# Stand for the two values that differ; no template contains them.
INSTANCE, TOKEN = "fleet0instance0of0this0index", "fleet0token0of0this0index"

Render = Callable[[LaunchOrder], str]


def of_many(orders: Sequence[LaunchOrder], render: Render) -> str | None:
    """One text for all of them; None: this text cannot hold several, or would be too long."""
    if len(orders) == 1:
        text = render(orders[0])
        return text if len(text.encode()) <= MOST_BYTES else None
    first = orders[0]
    boot = replace(first.first_boot, join_token=TOKEN)
    text = render(replace(first, instance=INSTANCE, first_boot=boot))
    if not text.startswith(HEAD) or INSTANCE not in text or TOKEN not in text or "endraw" in text:
        return None
    body = text.removeprefix(HEAD)
    for place, index in ((INSTANCE, 0), (TOKEN, 1)):
        body = body.replace(place, "{% endraw %}{{ fleet[" + str(index) + "] }}{% raw %}")
    table = json.dumps([[o.instance, o.first_boot.join_token] for o in orders], separators=(",", ":"))
    mine = "{% set fleet = " + table + "[ds.meta_data.ami_launch_index | int] %}"
    whole = f"## template: jinja\n{HEAD}{mine}{{% raw %}}\n{body}{{% endraw %}}\n"
    return whole if len(whole.encode()) <= MOST_BYTES else None
