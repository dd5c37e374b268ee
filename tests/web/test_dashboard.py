"""The dashboard, in a real browser: what it shows, and that nothing of the data becomes part of the page."""

import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import requests

from fleet.errors import StoreError
from fleet.model import Event, Reason, View
from fleet.store.memory import MemoryStore
from tests.waiting import PATIENCE
from tests.web.nouns import ALLOCATION, GPUS, T0, Web, a_view, an_instance, at, serving, settings

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def in_a_browser(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.system(pytest.mark.xdist_group("browser")(test))


def shown(url: str, profile: Path) -> str:
    """The page as the browser has it after two seconds, as HTML."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser here: one of {', '.join(BROWSERS)} (apt-get install chromium)")
    command = [browser, "--headless", *QUIET, f"--user-data-dir={profile}", "--virtual-time-budget=2500", "--dump-dom"]
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=60 * PATIENCE, check=True)
    return done.stdout


def text_of(html: str) -> str:
    body = html[html.index("<body") : html.rindex("<script>")]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_page_is_whole_and_lets_nothing_else_run(web: Web) -> None:
    page = requests.get(web.url + "/", timeout=9 * PATIENCE)
    assert page.headers["Content-Type"].startswith("text/html")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r'(?:src|href)="(?!data:)', page.text) == []
    assert "innerHTML" not in page.text


@in_a_browser
def test_it_shows_queues_machines_money_alerts_and_events(web: Web, tmp_path: Path) -> None:
    store = web.store
    store.record_intents([an_instance("i1", requested_at=at(-3600)), an_instance("i2", usd=None)])
    store.expect("i1", "join", at(0))
    store.enroll("i1", "join", "token", "host", GPUS, at(-1700))
    store.beat(
        "i1",
        at=at(-4),
        is_pulling=True,
        is_ending=False,
        reason=None,
        idle_since=None,
        allocations=(ALLOCATION,),
        runs=(),
        gpus=GPUS,
    )
    store.remember_view(a_view(at(-2), queued=3, alerts=(Reason(code="x", text=f"careful {SCRIPT}"),)))
    store.append_events([Event(at=T0, kind="task.claimed", text=f"taken {SCRIPT}", task="t1", instance="i1")])
    html = shown(web.url, tmp_path)
    text = text_of(html)
    for expected in (
        *("fleet c", "embedded server http://127.0.0.1:8008: answers", "1 of 2 GPUs in use"),
        *("Instances 2 of 4", "An hour, now $3.60 of $20.00", "Today (UTC) $3.60", "This month $3.60"),
        *("train 3 30 s 1 1 gpu", "i1 busy", "i2 requested", "price unknown", "train: 1 task waits"),
        *("GPU 0: t1", "GPU 1: free", "50%", f"careful {SCRIPT}", f"t1 on i1 taken {SCRIPT}"),
    ):
        assert expected in text
    assert "<title>fleet c</title>" in html, "no data was run"


@in_a_browser
def test_an_empty_fleet_says_so(web: Web, tmp_path: Path) -> None:
    text = text_of(shown(web.url, tmp_path))
    assert "No instances: nothing runs, nothing costs." in text
    assert "Nothing has happened yet." in text
    assert "the dispatcher has not finished a pass yet" in text


@in_a_browser
def test_it_asks_for_the_token_where_there_is_one(tmp_path: Path) -> None:
    with serving(Web(settings=settings(operator_token="s3cret"))) as web:
        html = shown(web.url, tmp_path)
    assert '<form id="login">' in html, "not hidden"
    assert "locked" in text_of(html)


@in_a_browser
def test_a_store_that_does_not_answer_is_said(tmp_path: Path) -> None:
    class Down(MemoryStore):
        def view(self) -> View | None:
            raise StoreError("the store does not answer: disk full")

    with serving(Web(store=Down())) as web:
        text = text_of(shown(web.url, tmp_path))
    assert "no contact" in text
    assert "the store does not answer: disk full" in text
