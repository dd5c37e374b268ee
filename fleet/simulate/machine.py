"""One machine of the simulation: what its supervisor decides (`fleet.supervisor.decide`), carried out in virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

from fleet.model import Gpu, Reason, Standing, Turns, altered
from fleet.planner.fairness import turns_for
from fleet.providers.base import LaunchOrder
from fleet.simulate.agenda import NEVER
from fleet.simulate.jobs import Jobs
from fleet.simulate.server import Lookouts
from fleet.simulate.surroundings import World
from fleet.store.life import LATE_WITHIN
from fleet.supervisor.decide import decide, next_deadline
from fleet.supervisor.instructions import Claim, EndMachine, Instruction, ResumePulling, StopPulling, StopTask
from fleet.supervisor.situation import Policy, State

# So long before the cloud takes a machine its tasks are stopped and put back.
STOP_BEFORE_END = timedelta(seconds=30)
# Ends of tasks that are no scale-down: the world did it, or a limit on lifetimes or money that the fleet file sets.
NOT_SCALE_DOWN = (
    "gpu_sick",
    "contact_lost",
    "preempted",
    "lost_contact",
    "max_lifetime",
    "budget_stop",
    "budget_drain",
)


class Machine:
    """From its launch to its end."""

    def __init__(
        self,
        order: LaunchOrder,
        world: World,
        policy: Policy,
        lookouts: Lookouts,
        end: Callable[[str], None],
        number: int,
    ) -> None:
        """`end` ends it as its own shutdown would. `number`: so many were launched before it."""
        self.id = order.instance
        self.number = number
        self.is_healthy = True  # it runs, and nothing has happened to it
        self._order, self._world, self._end = order, world, end
        # As orders come down: without an idle time while the centre wants it to stay.
        self._policy = policy
        self._is_dead = False
        self._jobs = Jobs(order, _gpus_of(order), world, self.step)
        self._peeks = lookouts.of(order.offer, self._jobs.gpus)
        self._enrolled_at: datetime | None = None
        self._stopped_pulling: Reason | None = None
        self._is_stopped_for_good = False
        self._notice: Reason | None = None
        self._is_out_of_time = False  # the cloud takes it any moment now
        self._cut_off_at: datetime | None = None
        self._silent_from: datetime = NEVER  # when contact will be lost, which only the world knows
        self._told: tuple[object, ...] = ()
        self._heard: tuple[Standing, bool, Turns] | None = None
        self._wakes_at: datetime | None = None

    # --- what the world does

    def boot(self) -> None:
        """Its supervisor starts and presents the join token."""
        if self._is_dead:
            return
        world, at = self._world, self._world.agenda.at
        hashed = hashlib.sha256(self._order.first_boot.join_token.encode()).hexdigest()
        if world.store.enroll(self.id, hashed, f"token of {self.id}", self.id, self._jobs.gpus, at) is None:
            self._vanish()  # refused: it has no purpose
            self._end(self.id)
            return
        self._enrolled_at = self._jobs.idle_since = at
        self._jobs.tell_spare()
        if world.faults.has(world.faults.quitters, "quits", self.id):
            self._stopped_pulling = Reason(code="hook_failed", text="a startup hook failed")
            self._say_goodbye(self._stopped_pulling)
        self.step()

    def lose_contact_at(self, at: datetime) -> None:
        """The world has decided when nobody will hear of it any more."""
        self._silent_from = at

    def lose_contact(self) -> None:
        """From now on nobody answers it and nobody hears of it; its tasks go on."""
        if self._is_working:
            self.is_healthy = False
            self._cut_off_at = self._world.agenda.at
            self.step()

    def find_contact(self) -> None:
        """The network is back, if its supervisor still lives."""
        if self._is_working and self._cut_off_at:
            self.is_healthy = self._notice is None
            self._cut_off_at, self._silent_from = None, NEVER
            self.step()

    def lose_supervisor(self) -> None:
        """Its supervisor dies, and every agent with it. The machine costs money until somebody ends it."""
        self._vanish()

    def lose_gpus(self) -> None:
        """Most of its GPUs fail."""
        if self._is_working:
            self._jobs.lose_gpus()
            self.step()

    def take_notice(self, deadline: datetime) -> None:
        """The cloud says that it will take the machine at `deadline`."""
        if self._is_dead:
            return
        self.is_healthy = False
        self._notice = Reason(code="preempted", text=f"the cloud takes this machine back at {deadline:%H:%M:%S} UTC")
        self._world.agenda.add(deadline - STOP_BEFORE_END, self._run_out_of_time)
        self.step()

    def killed(self, why: str) -> None:
        """The machine is no more, by somebody else's hand."""
        if self.is_healthy and why not in NOT_SCALE_DOWN:
            self._world.truth.busy_kills += len(self._jobs)
        self._vanish()

    def _run_out_of_time(self) -> None:
        self._is_out_of_time = True
        self.step()

    def _vanish(self) -> None:
        self._jobs.lose_all()
        self._world.spare.pop(self.id, None)
        self._is_dead = True
        self.is_healthy = False
        self._enrolled_at = None

    # --- what its supervisor does

    @property
    def _is_working(self) -> bool:
        return self._enrolled_at is not None

    @property
    def enrolled_at(self) -> datetime | None:
        """None: it does not work yet, or no more."""
        return self._enrolled_at

    @property
    def tasks(self) -> int:
        """How many run on it."""
        return len(self._jobs)

    @property
    def is_idle(self) -> bool:
        """It works, and nothing runs on it."""
        return self._enrolled_at is not None and self._jobs.idle_since is not None

    @property
    def free(self) -> int:
        """The most that one task could get here, in parts of a GPU."""
        return self._jobs.free

    @property
    def has_use_for(self) -> bool:
        """Whether a look into the queues could make it claim something: some task there needs no more than is free."""
        is_pulling = self._is_working and self._stopped_pulling is None and self._cut_off_at is None
        smallest = self._peeks.smallest() if is_pulling else None
        return smallest is not None and smallest <= self._jobs.free

    def hear_levels(self) -> None:
        """The centre wants something else of it. Where it has tasks and no use for others it hears that with its next step."""
        if not self.tasks or self.has_use_for:
            self.step()

    def step(self) -> None:
        """Decide and carry out until there is nothing more to do, tell the centre, and sleep until the next deadline."""
        self._tell_server()
        while self._is_working:
            self._hear()
            state = self._state()
            instructions = decide(state, self._policy)
            for instruction in instructions:
                self._carry_out(instruction)
            if not instructions:
                self._beat()
                self._sleep_until(next_deadline(state, self._policy))
                return

    def _hear(self) -> None:
        """The levels that hold for it now, as the edge API tells them (`fleet.assemble.centre`)."""
        known = None if self._cut_off_at else self._world.store.instance(self.id)
        if known is None:
            return
        turns = turns_for(self._world.store.turns(), known)
        standing, is_kept, before = known.standing, self._world.is_kept(self.id), self._heard
        if before and before[0] is standing and before[1] is is_kept and before[2] is turns:
            return  # nearly always, and to compare what they say takes longer
        if before == (standing, is_kept, turns):
            return
        self._heard = standing, is_kept, turns
        resource = self._order.resource
        idle_timeout = None if is_kept else resource.idle_timeout
        if resource.is_idle_auto and standing.idle_timeout is not None and not is_kept:
            idle_timeout = standing.idle_timeout
        self._policy = altered(
            self._policy,
            idle_timeout=idle_timeout,
            above_gpus=dict(standing.above_gpus),
            smaller=dict(standing.smaller),
            turns=turns,
        )

    def _state(self) -> State:
        assert self._enrolled_at
        at = self._world.agenda.at
        # Nobody asks a machine in contact how long it has been in contact: it is, until the world cuts it off.
        seen = self._cut_off_at or NEVER
        orders = None if self._cut_off_at else self._world.store.instance(self.id)
        ending = orders.end_reason if orders and orders.terminate_requested_at else None
        draining = orders.end_reason if orders and orders.drain_requested_at else None
        return State(
            at=at,
            enrolled_at=self._enrolled_at,
            gpus=self._jobs.working,
            sick=self._jobs.sick,
            cpus=self._order.offer.cpus,
            held=self._jobs.held,
            unsent=self._jobs.unsent,
            waiting=self._peeks.tasks() if self.has_use_for else (),
            seen_at=self._peeks.seen_at(),
            peeked_at=None if self._cut_off_at else at,
            idle_since=self._jobs.idle_since,
            server_seen_at=seen,
            centre_seen_at=seen,
            drain=self._notice or draining,
            end=self._notice if self._is_out_of_time else ending,
            stopped_pulling=self._stopped_pulling,
            is_stopped_for_good=self._is_stopped_for_good,
        )

    def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Claim():
                self._jobs.claim(instruction)
            case StopTask():
                self._stop(instruction)
            case StopPulling():
                self._stopped_pulling = instruction.reason
                self._is_stopped_for_good = instruction.is_for_good
            case ResumePulling():
                self._stopped_pulling = None
            case EndMachine():
                self._say_goodbye(instruction.reason)

    def _stop(self, stop: StopTask) -> None:
        if self.is_healthy and stop.reason.code not in NOT_SCALE_DOWN:
            self._world.truth.busy_kills += 1
        self._jobs.stop(stop.task, stop.then)
        self._tell_server()

    def _tell_server(self) -> None:
        """What tasks came to, as soon as the server can be reached."""
        if self._is_working and not self._cut_off_at:
            self._jobs.tell_server()

    def _beat(self, goodbye: Reason | None = None) -> None:
        """The centre hears what is new. Beats that would repeat it are left out: one stands for all until it goes silent."""
        if self._cut_off_at:
            return
        jobs, stops = self._jobs, goodbye or self._stopped_pulling
        news = (stops, goodbye, jobs.idle_since, jobs.allocations, self._silent_from, jobs.gpus)
        if news == self._told and not jobs.new_runs:
            return
        self._told = news
        now = self._world.agenda.at
        # Before one that stands for all until it goes silent, in a moment, its last word would be late.
        last = self._silent_from if self._silent_from - now <= LATE_WITHIN else now
        times = [last] if goodbye else [*([now] if stops else []), self._silent_from]
        for at in times:
            self._world.store.beat(
                self.id,
                at=at,
                is_pulling=not stops,
                is_ending=goodbye is not None,
                reason=stops,
                idle_since=jobs.idle_since,
                allocations=jobs.allocations,
                runs=jobs.new_runs,
                gpus=jobs.gpus,
            )
        jobs.new_runs = []

    def _say_goodbye(self, reason: Reason) -> None:
        self._beat(reason)
        self._vanish()
        self._end(self.id)

    def _sleep_until(self, deadline: datetime | None) -> None:
        if deadline and deadline < NEVER and deadline != self._wakes_at:
            self._wakes_at = deadline
            self._world.agenda.add(deadline, self._wake)

    def _wake(self) -> None:
        if self._is_working and self._wakes_at == self._world.agenda.at:
            self._wakes_at = None
            self.step()


def _gpus_of(order: LaunchOrder) -> tuple[Gpu, ...]:
    offer = order.offer
    memory_gib = offer.gpu_memory_gib or 0.0
    return tuple(
        Gpu(index=n, uuid=f"{order.instance}-gpu{n}", model=offer.gpu_model or "", memory_gib=memory_gib)
        for n in range(offer.gpus)
    )
