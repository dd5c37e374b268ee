"""The house rules, held by a test: imports point down, the deciding parts are pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    p.relative_to(ROOT).as_posix() for house in ("fleet", "agent_hooks") for p in (ROOT / house).rglob("*.py")
)
MAY_IMPORT = {  # room -> the rooms below it; the longest matching room speaks for a file
    "fleet/": [],
    "fleet/model/": ["fleet.model"],
    "fleet/errors": [],
    "fleet/wire": ["fleet.errors", "fleet.model"],
    "fleet/config": ["fleet.config", "fleet.errors", "fleet.model", "fleet.nearest", "fleet.schedule"],
    "fleet/database": ["fleet.errors"],  # engines and migrations, for the two rooms that keep tables
    "fleet/pinned": ["fleet.errors"],  # trust by fingerprint, for machines that boot and for commands
    "fleet/trust": [],  # one TLS context for all connections of a process that trust the same
    "fleet/nearest": [],  # the name that was meant, for whoever refuses one
    "fleet/schedule": ["fleet.model"],  # cron, for those who read the fleet file and those who keep it
    "fleet/planner/": ["fleet.model", "fleet.planner"],
    "fleet/identity/": ["fleet.errors", "fleet.identity", "fleet.model", "fleet.wire"],
    "fleet/providers/": ["agent_hooks", "fleet.errors", "fleet.model", "fleet.providers"],
    "fleet/queues/": ["fleet.errors", "fleet.model", "fleet.nearest", "fleet.queues", "fleet.trust"],
    "fleet/store/": ["fleet.database", "fleet.errors", "fleet.model", "fleet.store"],
    "fleet/dispatcher/": [
        "fleet.errors",
        "fleet.model",
        "fleet.planner.breaker",
        "fleet.planner.fairness",
        "fleet.planner.habits",
        "fleet.planner.market",
        "fleet.planner.plan",
        "fleet.planner.windows",
        "fleet.providers.base",
        "fleet.queues.base",
        "fleet.schedule",
        "fleet.store.base",
        "fleet.dispatcher",
    ],
    "fleet/supervisor/": [
        "agent_hooks",
        "fleet.errors",
        "fleet.model",
        "fleet.wire",
        "fleet.pinned",
        "fleet.planner.fairness",  # one order for what is planned and what is claimed
        "fleet.queues",
        "fleet.supervisor",
        "fleet.trust",
    ],
    "fleet/server/": ["fleet.database", "fleet.errors", "fleet.model", "fleet.server"],
    "fleet/web/": [
        "fleet.errors",
        "fleet.model",
        "fleet.planner.fairness",
        "fleet.nearest",
        "fleet.wire",
        "fleet.store.base",
        "fleet.web",
    ],
    "fleet/simulate/": [
        "fleet.config",
        "fleet.dispatcher",
        "fleet.errors",
        "fleet.model",
        "fleet.nearest",
        "fleet.planner.fairness",
        "fleet.planner.habits",
        "fleet.providers.fake",
        "fleet.providers.base",
        "fleet.providers.genesis.settings",
        "fleet.providers.prices",
        "fleet.queues.base",
        "fleet.queues.memory",
        "fleet.simulate",
        "fleet.store.chronicle",
        "fleet.store.life",
        "fleet.store.memory",
        "fleet.supervisor.allocation",
        "fleet.supervisor.decide",
        "fleet.supervisor.instructions",
        "fleet.supervisor.situation",
        "fleet.wire",
    ],
    "fleet/assemble/": [
        "agent_hooks",
        "fleet.assemble",
        "fleet.database",
        "fleet.planner",
        "fleet.config",
        "fleet.dispatcher",
        "fleet.errors",
        "fleet.identity",
        "fleet.model",
        "fleet.nearest",
        "fleet.pinned",
        "fleet.providers",
        "fleet.queues",
        "fleet.schedule",
        "fleet.server",
        "fleet.store",
        "fleet.supervisor",
        "fleet.web",
        "fleet.wire",
    ],
    "fleet/demo/": [
        "fleet.assemble",
        "fleet.config",
        "fleet.demo",
        "fleet.errors",
        "fleet.model",
        "fleet.queues",
        "fleet.wire",
    ],
    "fleet/cli/": [
        "fleet.assemble",
        "fleet.cli",
        "fleet.demo",
        "fleet.config",
        "fleet.errors",
        "fleet.model",
        "fleet.nearest",
        "fleet.pinned",
        "fleet.queues",
        "fleet.simulate",
        "fleet.supervisor",
        "fleet.wire",
    ],
    "fleet/__main__": ["fleet.cli"],
    "agent_hooks/": ["agent_hooks"],
}
PURE = {
    "__future__",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "gc",  # when memory is tidied changes no plan
    "heapq",
    "itertools",
    "math",
    "operator",
    "types",
    "typing",
}


def imports(file: str) -> Iterator[str]:
    """Every import of a file, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports whole"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if (ROOT / (whole.replace(".", "/") + ".py")).exists() else str(node.module)


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down(file: str) -> None:
    room = max((r for r in MAY_IMPORT if file.startswith(r)), key=len)
    ours = [name for name in imports(file) if name.split(".")[0] in ("fleet", "agent_hooks") and name != "fleet"]
    assert [n for n in ours if not any(n == ok or n.startswith(ok + ".") for ok in MAY_IMPORT[room])] == []


EDGE = [
    f"fleet/supervisor/{name}.py"
    for name in (
        *("allocation", "claims", "decide", "groups", "instructions", "levels", "situation", "stops"),
        *("under_notice", "verdict", "why"),
    )
]
CORE = ("fleet/model/", "fleet/planner/", *EDGE)


@pytest.mark.parametrize("file", [f for f in FILES if f.startswith(CORE)])
def test_core_is_pure(file: str) -> None:
    text = (ROOT / file).read_text()
    names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    assert {n.split(".")[0] for n in imports(file)} - PURE - {"fleet", "agent_hooks"} == set()
    assert names & {"open", "print", "input", "eval", "exec", "__import__"} == set()
    assert [word for word in (".now(", ".today(", ".utcnow(") if word in text] == []


# The two loops must outlive a bug in one round: nobody else would end the machines.
LOOPS = ("fleet/dispatcher/loop.py", "fleet/supervisor/loop.py")


@pytest.mark.parametrize("file", [f for f in FILES if f not in LOOPS])
def test_only_the_loops_catch_everything(file: str) -> None:
    caught = [n.type for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.ExceptHandler)]
    names = {ast.unparse(t) if t else "everything" for t in caught}
    assert names & {"everything", "Exception", "BaseException"} == set()


@pytest.mark.parametrize("file", [f for f in FILES if "/migrations/" not in f])
def test_rooms_are_small(file: str) -> None:
    """About 400 lines a file, a page a function."""
    text = (ROOT / file).read_text()
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(text.splitlines()) <= 420
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 60] == []
