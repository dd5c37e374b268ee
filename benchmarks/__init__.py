"""What fleet costs and how fast it is, measured on real parts: `python -m benchmarks [--quick] [names...]`.

    launch      task enqueued -> the cloud is called                      beside: nothing that can run here
    start       task enqueued -> agent process on an idle instance        beside: a stock clearml-agent daemon
    idle        memory, CPU and calls of an idle supervisor of 8 GPUs     beside: eight stock clearml-agent daemons
    idle_docker the same over TLS with a Docker engine                    beside: nothing that can run here
    churn       1,000 short tasks (`--tasks N`) on one machine, and what is left of them
    commands    `fleet --help`, `fleet status` as whole processes         beside: bare Python, `clearml-agent --help`
    server      calls a second of the embedded server on SQLite           beside: nothing that can run here
    planner     one plan of a large fleet
    dispatcher  one pass with nothing to do in a large fleet
    quality     what a plan costs an hour                                 beside: the exact optimum of a small world
    schedulers  one plan, its time and its cost                           beside: Ray's two schedulers, their own code
    money       dollars and waiting on workloads                          beside: ClearML's AutoScaler, its own code; shapes of others
    spot        the same on machines that are taken back

One JSON object a line: {"name", "value", "unit"} and, where they make sense, n, p50, p95, goal, is_met, peer, ratio.
Ray comes from PyPI into `benchmarks/.peers` (`python -m benchmarks.peers`, which `make bench` runs first); without it the
line of `schedulers` says so. Workloads of real clusters are measured where `../shared/data` holds them.
Several measurements with a goal need a quiet machine: `load` is the one-minute load average when the line was written.
"""

TASKS, MOST_TASKS = 1000, 100_000  # of `churn`
TASKS_VARIABLE = "BENCH_TASKS"  # in the environment of its process: another number
