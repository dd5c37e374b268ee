"""What NVIDIA's Xid errors say of a GPU: the fault of a program that ran on it, or its own.

Source: NVIDIA, "XID Errors" (docs.nvidia.com/deploy/xid-errors) and its catalog ("Analyzing Xid Errors with the Xid
Catalog"), where each has an immediate action. Those that only restart the application leave the GPU in service; they
are also what NVIDIA's own device plugin for Kubernetes ignores (13, 31, 43, 45, 68, 109). What wants a reset, a restart
of the machine, or NVIDIA's support takes the GPU out of service: docs/adr/0027-sick-gpus.md.
"""

from __future__ import annotations

# A program's own fault, or what becomes of it after another error: a GPU is none the worse for them.
OF_PROGRAMS = {
    8: "the GPU stopped processing for a program",
    13: "graphics engine exception, most often an access out of bounds",
    31: "GPU memory page fault, most often an access out of bounds",
    32: "a corrupted push buffer",
    37: "driver firmware warning",
    43: "a program was stopped after a fault of its own",
    45: "a program was removed, most often because it was killed",
    68: "video decoder exception",
    69: "graphics engine class error",
    109: "context switch timeout",
}
# Recorded for people: the hardware has dealt with it. What is still to be done shows in the remapped rows.
RECORDED = {
    63: "a bad memory page or row was marked to be replaced",
    92: "many single-bit errors, all corrected",
}
OF_THE_GPU = {
    46: "the GPU stopped processing",
    48: "a double-bit memory error",
    61: "its micro-controller reports a breakpoint or a warning",
    62: "its micro-controller has halted",
    64: "a bad memory page or row could not be marked to be replaced",
    74: "NVLink error",
    79: "it has fallen off the bus",
    94: "a memory error, contained to one program",
    95: "a memory error that may have reached any program",
    110: "security fault",
    119: "its system processor (GSP) does not answer",
    120: "its system processor (GSP) has failed",
    121: "error of the link to its CPU (C2C)",
    136: "a link to another GPU could not be trained",
    140: "a memory error that could not be corrected",
    143: "it could not be initialised",
    **dict.fromkeys(range(144, 151), "NVLink error"),
}


def is_of_the_gpu(xid: int) -> bool:
    """Whether nobody should compute on a GPU after this. Of one that no table here knows: no, but people are told."""
    return xid in OF_THE_GPU


def words(xid: int) -> str:
    """What it is, in a few words."""
    known = OF_THE_GPU.get(xid) or RECORDED.get(xid) or OF_PROGRAMS.get(xid)
    return known or "see NVIDIA's catalog of Xid errors"
