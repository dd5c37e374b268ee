"""The dispatcher's loop: a pass, then wait for the next or for a hint. One of the two places with a broad `except`."""

from __future__ import annotations

import logging
import threading

from fleet.dispatcher.passes import Dispatcher
from fleet.errors import FleetError, NotLeading

log = logging.getLogger(__name__)


class Loop:
    """Runs passes until told to stop. `wake` may be called from any thread."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self._wake = threading.Event()
        self._stop = threading.Event()
        self.may_launch = False  # a pass runs that began before it was said that everything is to end

    def wake(self) -> None:
        """Something may have changed: do not wait for the next interval. A hint; polling stays the truth."""
        self._wake.set()

    def stop(self) -> None:
        """End after the pass that runs now."""
        self._stop.set()
        self._wake.set()

    def run(self) -> None:
        """Pass after pass, whatever happens in one of them."""
        interval = self.dispatcher.policy.poll_interval.total_seconds()
        is_leading = True
        while not self._stop.is_set():
            self._wake.clear()
            # Before the pass asks the same: whoever says so and then finds False knows that nothing more is launched.
            self.may_launch = not self.dispatcher.is_closing
            wait_s = interval
            try:
                self.dispatcher.run_pass()
                is_leading = True
                wait_s = min(interval, self.dispatcher.patience_s)  # asks the store, which may not answer either
            except NotLeading as error:
                if is_leading:
                    log.warning("waiting for the lead", extra={"error": str(error)})
                is_leading = False
            except FleetError as error:
                log.error("pass given up", extra={"error": str(error)})
            except Exception:
                # A bug in one pass must not end the only process that ends machines.
                log.exception("pass failed")
            finally:
                self.may_launch = False
            self._wake.wait(wait_s)
        policy = self.dispatcher.policy
        try:
            self.dispatcher.parts.store.give_up_lead(policy.cluster, self.dispatcher.holder)
        except FleetError as error:
            log.warning("lead not given up; it runs out by itself", extra={"error": str(error)})
