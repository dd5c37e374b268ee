"""What a task on a part of a GPU is told of its part. Told, not enforced: `meter` sees whether it is kept.

Frameworks take the whole memory of a GPU at their start unless they are told otherwise. What they read by themselves is
set for them, unless the fleet file's `agent.environment` says it already. PyTorch takes memory as it needs it, and has no
variable that every version understands: a script calls `torch.cuda.set_per_process_memory_fraction` with FLEET_GPU_SHARE.
Source: docs/adr/0017-parts-of-a-gpu.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleet.model import Gpu, Task

MIB_PER_GIB = 1024
# JAX counts what it preallocates; the driver also what the process needs besides (context, kernels).
PREALLOCATED = 0.9


def facts(task: Task, gpus: Sequence[Gpu]) -> dict[str, str]:
    """For scripts and hooks; nothing for a task of whole GPUs."""
    share = task.need.share
    if share is None or not gpus:
        return {}
    return {"FLEET_GPU_SHARE": f"{share:g}", "FLEET_GPU_MEMORY_LIMIT_MIB": str(limit_mib(share, gpus[0]))}


def hints(task: Task, gpus: Sequence[Gpu], known: Mapping[str, str]) -> dict[str, str]:
    """For the driver and for frameworks; `known` is what the environment says already."""
    share = task.need.share
    if share is None or not gpus:
        return {}
    found = {
        # Both are read by programs that find an MPS daemon on the machine, and by no other.
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": f"{max(round(100 * share), 1)}",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"0={limit_mib(share, gpus[0])}M",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    # The old name, which all versions of JAX know; together with the new one it is an error.
    if "XLA_CLIENT_MEM_FRACTION" not in known:
        found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{PREALLOCATED * share:.4g}"
    return found


def limit_mib(share: float, gpu: Gpu) -> int:
    """The memory of a share of this GPU, in MiB."""
    return int(share * gpu.memory_gib * MIB_PER_GIB)
