"""The parts of a supervisor that have threads, put together: each tells the main thread what happened through one inbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet.supervisor import events
from fleet.supervisor.calls import Calls, worker_base
from fleet.supervisor.clock import Clock
from fleet.supervisor.console import Console
from fleet.supervisor.contact import Contact
from fleet.supervisor.hints import Hints
from fleet.supervisor.inbox import Inbox
from fleet.supervisor.listening import Listening
from fleet.supervisor.memory import Remembered
from fleet.supervisor.meter import Meter
from fleet.supervisor.moments import Moments
from fleet.supervisor.parts import Parts
from fleet.supervisor.sender import Sender
from fleet.supervisor.vacancy import Vacancies
from fleet.supervisor.vigil import Vigil
from fleet.supervisor.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """What the loop speaks to. `steps`: what threads do again and again, by the thread's name."""

    inbox: Inbox
    contact: Contact
    calls: Calls
    moments: Moments
    meter: Meter
    work: Work
    vacancies: Vacancies
    vigil: Vigil
    listening: Listening
    steps: Mapping[str, Callable[[], None]]


def wire(parts: Parts, clock: Clock, before: Remembered) -> Wired:
    """Nothing is started yet."""
    enrolled, inbox = parts.enrolled, Inbox()
    report = inbox.put
    contact = Contact(before.server_at, before.centre_at)
    calls = Calls(
        claims=parts.claims,
        centre=parts.centre,
        senses=parts.senses,
        contact=contact,
        clock=clock,
        report=report,
    )
    sender = Sender(parts.claims, clock.now, report, contact.server_answered)
    console = Console(
        on_text=sender.has_text,
        on_exit=lambda key: report(events.Exited(key=key)),
        on_end=lambda key: report(events.Silent(key=key)),
    )
    moments = Moments(parts.hooks, report)
    hints = Hints(parts.centre, lambda: report(events.Hinted()))
    work = Work(
        instance=enrolled.instance,
        worker=worker_base(enrolled),
        claims=parts.claims,
        runner=parts.runner,
        console=console,
        sender=sender,
        errands=calls.server,
        moments=moments,
        clock=clock,
        stop_grace=enrolled.agent.stop_grace,
        memory=parts.memory,
        report=report,
        why_sick=parts.senses.why_sick,
    )
    listening = Listening(parts.watches, clock, report)
    steps = {
        "server": calls.server.step,
        "centre": calls.dispatcher.step,
        "console": console.step,
        "sender": sender.step,
        **({"hints": hints.step} if parts.centre.is_remote else {}),
        **{f"notices {number}": step for number, step in enumerate(listening.steps)},
    }
    return Wired(
        inbox=inbox,
        contact=contact,
        calls=calls,
        moments=moments,
        meter=Meter(parts.gpus, parts.runner.mark_of, report),
        work=work,
        vacancies=Vacancies(parts.gpus, parts.runner.mark_of, enrolled.agent, clock.now, report),
        vigil=Vigil(enrolled.keep_awake, parts.gpus, report),
        listening=listening,
        steps=steps,
    )
