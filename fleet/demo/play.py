"""The demo, from its first line to its report."""

from __future__ import annotations

import importlib.util
import json
import signal
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from fleet.assemble.centre import Centre
from fleet.assemble.state import access_from
from fleet.config import parse
from fleet.demo.picture import Picture
from fleet.demo.stage import FINAL, FLEET_FILE, WISHES, Scene, Sdk, Wish, as_json, shortcomings, watch
from fleet.errors import ConfigError
from fleet.model import Reason
from fleet.queues.client import ClearMLServer

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NEEDED = {"clearml": "the SDK", "clearml_agent": "the agent"}


def play(is_json: bool) -> int:
    """Run the demo; the exit code: 0 only if everything happened that should.

    Raises:
        FleetError: it could not even begin; the text says why.
    """
    missing = [f"{name} ({what})" for name, what in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the demo needs {' and '.join(missing)}; install them with: pip install 'fleet[demo]'")
    console = Console(stderr=is_json, highlight=False)
    started = time.monotonic()
    _end_by_sigterm_as_by_ctrl_c()
    with tempfile.TemporaryDirectory(prefix="fleet-demo-") as place, Picture(console) as picture:
        scene = _play(Path(place), picture)
    picture.report(scene)
    wrong = shortcomings(scene)
    for line in wrong:
        picture.note(f"✘ {line}")
    if not wrong:
        picture.note(f"✔ all of it really happened, in {time.monotonic() - started:.0f} s")
    if is_json:
        print(json.dumps(as_json(scene), indent=2))
    return 1 if wrong else 0


def _play(place: Path, picture: Picture) -> Scene:
    config = replace(parse(FLEET_FILE, "the demo's fleet file"), state_dir=place / "state")
    centre = Centre(config)
    try:
        centre.start()
        picture.note(f"server, dispatcher and dashboard run at {centre.url}")
        pairs = centre.state.read_json(centre.state.credentials_file)
        sdk = Sdk(access_from(pairs, centre.access.api_url, "user"), place)
        sdk.register()
        picture.note("the real SDK registered the toy script; five clones of it are enqueued")
        tasks = sdk.enqueue(WISHES)
        return watch(_Look(centre, tasks).scene, picture.show)
    finally:
        centre.end_machines(Reason(code="operator", text="the demo ended"), timedelta(seconds=20))
        centre.stop()


def _end_by_sigterm_as_by_ctrl_c() -> None:
    """Whoever ends the demo, its machines and its directory go with it."""

    def leave(number: int, _frame: object) -> None:
        for again in ENDINGS:
            signal.signal(again, signal.SIG_IGN)  # the tidying up takes seconds, and shall not be cut short
        raise SystemExit(128 + number)

    for number in ENDINGS:
        signal.signal(number, leave)


class _Look:
    """Looks at server and store, and remembers which events were seen."""

    def __init__(self, centre: Centre, tasks: dict[str, Wish]) -> None:
        self._centre = centre
        self._tasks = tasks
        self._server = ClearMLServer(centre.access)
        self._after = 0

    def scene(self) -> Scene:
        store, long_ago = self._centre.store, datetime(2000, 1, 1, tzinfo=UTC)
        instances = store.instances(self._centre.config.cluster, gone_after=long_ago)
        states = dict(self._server.states(list(self._tasks)))
        events = store.events(after=self._after)
        self._after = max((e.seq for e in events), default=self._after)
        is_over = all(i.gone_at for i in instances) and all(s.status in FINAL for s in states.values())
        consoles = {t: "\n".join(self._console(t)) for t in self._tasks} if is_over else {}
        return Scene(
            tasks=self._tasks,
            states=states,
            instances=instances,
            runs=store.runs(ended_after=long_ago),
            events=events,
            consoles=consoles,
        )

    def _console(self, task: str) -> list[str]:
        texts: list[str] = []
        after = 0
        while True:
            more, after = self._server.log(task, after)
            if not more:
                return texts
            texts += more
