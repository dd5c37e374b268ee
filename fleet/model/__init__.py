"""FRONT DOOR: the nouns that cross rooms. All frozen, keyword-only, free of I/O; times are aware UTC, money is US dollars.

Read in this order:
    wanted      Task and Queue, and what they need of GPUs
    offered     Resource and Offer: what may be had
    there       Gpu, Allocation and Instance
    notice      the cloud's warning that it takes a machine back
    limits      Budget, and what was spent of it
    plans       Snapshot (what the planner sees), Plan and its actions (what it says), Turns (what it says to supervisors)
    reason      why, with every action and every event
    remembered  Run, Event and View
    altered     a noun but for some of its fields
    told        how supervisors run agents, and where the server is
"""

from fleet.model.altered import altered
from fleet.model.limits import Budget, Spent, WhenSpent
from fleet.model.notice import Notice, OnRebalance
from fleet.model.offered import Market, MarketPolicy, Offer, Quota, Resource
from fleet.model.plans import (
    Action,
    Backoff,
    Band,
    CancelDrain,
    Drain,
    Fairness,
    Habits,
    Hold,
    Launch,
    Plan,
    PoolRecord,
    Snapshot,
    Terminate,
    Turns,
    Use,
    Waiting,
)
from fleet.model.reason import Reason
from fleet.model.remembered import Event, QueueView, Run, RunResult, View
from fleet.model.there import TAKING_TASKS, Allocation, Gpu, Instance, InstanceState, Standing, Vitals
from fleet.model.told import AgentSettings, ContainerSettings, KeepAwake, ServerAccess
from fleet.model.wanted import (
    MOST_GPUS,
    NOMINAL_MEMORY,
    PARTS_OF_A_GPU,
    SMALLEST_PART,
    GpuNeed,
    Preference,
    Queue,
    Task,
    Window,
    in_parts,
    is_gpu_type,
    read_gpu_type,
)

__all__ = [
    "Action",
    "AgentSettings",
    "ContainerSettings",
    "Allocation",
    "Backoff",
    "Band",
    "Budget",
    "CancelDrain",
    "Drain",
    "Event",
    "Fairness",
    "Gpu",
    "GpuNeed",
    "Habits",
    "Hold",
    "Instance",
    "InstanceState",
    "KeepAwake",
    "Launch",
    "MOST_GPUS",
    "Market",
    "MarketPolicy",
    "NOMINAL_MEMORY",
    "Notice",
    "Offer",
    "OnRebalance",
    "PARTS_OF_A_GPU",
    "Plan",
    "PoolRecord",
    "Preference",
    "Queue",
    "Quota",
    "QueueView",
    "Reason",
    "Resource",
    "Run",
    "RunResult",
    "SMALLEST_PART",
    "ServerAccess",
    "Snapshot",
    "Spent",
    "Standing",
    "TAKING_TASKS",
    "Task",
    "Terminate",
    "Turns",
    "Use",
    "View",
    "Vitals",
    "Waiting",
    "WhenSpent",
    "Window",
    "altered",
    "in_parts",
    "is_gpu_type",
    "read_gpu_type",
]
