"""tasks.* that write what a task is: create, clone, edit, parameters, artifacts, models, requirements."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from fleet.server import projects, status, tasks
from fleet.server.call import Call, reads, writes
from fleet.server.records import Doc, load
from fleet.server.refusal import invalid, wrong_status
from fleet.server.tables import TASK

ARTIFACT: Doc = {"mode": "output", "display_data": []}


def create(call: Call) -> Doc:
    name = call.required("name", at_least=tasks.SHORTEST_NAME)
    columns = {
        "type": call.required("type", at_most=32),
        "parent": call.text("parent") or None,
        "project": projects.known(call, call.text("project")) if call.text("project") else None,
    }
    return {"id": tasks.create(call, name, tasks.checked_fields(call), **columns)}


def clone(call: Call) -> Doc:
    """A new task with the script, parameters, configuration, container and execution of another; nothing of its run."""
    source = tasks.get(call, call.required("task"))
    doc = load(source.doc)
    copied = {
        name: doc[name] for name in ("comment", "script", "hyperparams", "configuration", "container") if name in doc
    }
    execution = {k: v for k, v in doc["execution"].items() if k != "queue"}
    execution["artifacts"] = [a for a in execution.get("artifacts") or [] if a.get("mode") == "input"]
    fields: Doc = {
        **copied,
        "execution": {**execution, **call.mapping("execution_overrides")},
        "models": {"input": doc["models"].get("input") or [], "output": []},
        "tags": doc["tags"],
    }
    overrides = {
        "comment": call.text("new_task_comment") or None,
        "tags": call.texts("new_task_tags") if call.has("new_task_tags") else None,
        "system_tags": call.texts("new_task_system_tags") or None,
        "hyperparams": call.mapping("new_task_hyperparams") or None,
        "configuration": call.mapping("new_task_configuration") or None,
        "container": call.mapping("new_task_container") or None,
    }
    fields |= {name: value for name, value in overrides.items() if value is not None}
    for field, value in fields.items():
        tasks.check_inside(field, value)
    name = call.text("new_task_name") or f"Clone Of {source.name}"
    if len(name) < tasks.SHORTEST_NAME:
        raise invalid("new_task_name", "String value is too short")
    data: Doc = {}
    project = projects.known(call, call.text("new_task_project")) if call.text("new_task_project") else source.project
    if new_project := call.text("new_project_name"):
        project = projects.ensure(call, new_project)
        data["new_project"] = {"id": project, "name": new_project}
    parent = call.text("new_task_parent") or source.parent
    task = tasks.create(call, name, fields, type=source.type, parent=parent, project=project)
    return {"id": task, **data}


def edit(call: Call) -> Doc:
    """Sets each given field as a whole (script and execution field by field). Once it ran, only with force."""
    row = tasks.get(call, call.required("task"))
    if row.status not in (status.CREATED, status.QUEUED) and not call.flag("force"):
        raise wrong_status(row.status, status.CREATED)
    return _update(call, row)


def update(call: Call) -> Doc:
    return _update(call, tasks.get(call, call.required("task")))


def _update(call: Call, row: sa.Row[Any]) -> Doc:
    columns: dict[str, Any] = {}
    if call.has("name"):
        columns["name"] = call.required("name", at_least=tasks.SHORTEST_NAME)
    if call.has("type"):
        columns["type"] = call.required("type", at_most=32)
    if call.has("parent"):
        columns["parent"] = call.text("parent") or None
    if call.has("project"):
        columns["project"] = projects.known(call, call.text("project")) if call.text("project") else None
    fields = tasks.edit(call, row, tasks.checked_fields(call), **columns)
    times = {"last_change": call.now, "last_changed_by": call.identity.user, "last_update": call.now}
    return {"fields": {**columns, **fields, **times}, "updated": 1}


def set_requirements(call: Call) -> Doc:
    """`requirements` as it comes: pip is a string from the SDK and a list from the agent."""
    row = tasks.get(call, call.required("task"))
    tasks.edit(call, row, {"script": {"requirements": call.mapping("requirements")}})
    return {"fields": {}, "updated": 1}


def edit_hyper_params(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    params: dict[str, Doc] = {k: dict(v) for k, v in load(row.doc)["hyperparams"].items()}
    items = call.mappings("hyperparams")
    how = call.text("replace_hyperparams") or "none"
    if how == "all":
        params = {}
    elif how == "section":
        params = {k: v for k, v in params.items() if k not in {i.get("section") for i in items}}
    for item in items:
        section, name = item.get("section"), item.get("name")
        if not isinstance(section, str) or not isinstance(name, str):
            raise invalid("hyperparams", "expected a list of {section, name, value}")
        params.setdefault(section, {})[name] = {k: v for k, v in item.items() if k != "method" and v is not None}
    tasks.edit(call, row, {"hyperparams": params})
    return {"updated": 1}


def get_hyper_params(call: Call) -> Doc:
    docs = _docs(call)
    flat = {
        task: [p for section in doc["hyperparams"].values() for p in section.values()] for task, doc in docs.items()
    }
    return {"params": [{"task": task, "hyperparams": params} for task, params in flat.items()]}


def delete_hyper_params(call: Call) -> Doc:
    """Each item names a section, or a section and a name in it."""
    row = tasks.get(call, call.required("task"))
    params: dict[str, Doc] = {k: dict(v) for k, v in load(row.doc)["hyperparams"].items()}
    for item in call.mappings("hyperparams"):
        section = str(item.get("section"))
        if item.get("name") is None:
            params.pop(section, None)
        else:
            params.get(section, {}).pop(str(item["name"]), None)
    tasks.edit(call, row, {"hyperparams": params})
    return {"deleted": 1}


def edit_configuration(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    items = {str(item.get("name")): item for item in call.mappings("configuration")}
    old = {} if call.flag("replace_configuration") else load(row.doc)["configuration"]
    tasks.edit(call, row, {"configuration": {**old, **items}})
    return {"updated": 1}


def delete_configuration(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    names = call.texts("configuration")
    left = {k: v for k, v in load(row.doc)["configuration"].items() if k not in names}
    tasks.edit(call, row, {"configuration": left})
    return {"deleted": 1}


def get_configurations(call: Call) -> Doc:
    names = call.texts("names")
    found = []
    for task, doc in _docs(call).items():
        items = [v for k, v in doc["configuration"].items() if not names or k in names]
        found.append({"task": task, "configuration": items})
    return {"configurations": found}


def add_or_update_artifacts(call: Call) -> Doc:
    """By key and mode: the first place stays, the content is replaced."""
    row = tasks.get(call, call.required("task"))
    items = {(a.get("key"), a.get("mode", "output")): a for a in load(row.doc)["execution"].get("artifacts") or []}
    for artifact in call.mappings("artifacts"):
        if not isinstance(artifact.get("key"), str):
            raise invalid("artifacts", "expected a list of {key, type, uri, ...}")
        whole = {**ARTIFACT, **{k: v for k, v in artifact.items() if v is not None}}
        items[(whole["key"], whole["mode"])] = whole
    tasks.edit(call, row, {"execution": {"artifacts": list(items.values())}})
    return {"updated": 1}


def delete_artifacts(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    gone = {(a.get("key"), a.get("mode") or "output") for a in call.mappings("artifacts")}
    old = load(row.doc)["execution"].get("artifacts") or []
    left = [a for a in old if (a.get("key"), a.get("mode", "output")) not in gone]
    tasks.edit(call, row, {"execution": {"artifacts": left}})
    return {"deleted": len(old) - len(left)}


def add_or_update_model(call: Call) -> Doc:
    """Names a model as an input or output of the task."""
    row = tasks.get(call, call.required("task"))
    name, kind = call.required("name"), call.required("type")
    if kind not in ("input", "output"):
        raise invalid("type", "one of input, output")
    old = load(row.doc)["models"].get(kind) or []
    item = {"name": name, "model": call.required("model"), "updated": call.now}
    tasks.edit(call, row, {"models": {kind: [m for m in old if m.get("name") != name] + [item]}})
    if call.has("iteration"):
        iteration = max(call.number("iteration", 0), row.last_iteration)
        tasks.touch(call, row.id, last_iteration=iteration)
    return {"updated": 1}


def delete_models(call: Call) -> Doc:
    row = tasks.get(call, call.required("task"))
    gone = {(m.get("type"), m.get("name")) for m in call.mappings("models")}
    old: dict[str, list[Doc]] = load(row.doc)["models"]
    left = {kind: [m for m in items if (kind, m.get("name")) not in gone] for kind, items in old.items()}
    tasks.edit(call, row, {"models": left})
    return {"updated": 1}


def _docs(call: Call) -> dict[str, Doc]:
    query = sa.select(TASK.c.id, TASK.c.doc).where(TASK.c.id.in_(call.texts("tasks")))
    return {row.id: load(row.doc) for row in call.connection.execute(query)}


ENDPOINTS = {
    "tasks.create": writes(create),
    "tasks.clone": writes(clone),
    "tasks.edit": writes(edit),
    "tasks.update": writes(update),
    "tasks.set_requirements": writes(set_requirements),
    "tasks.edit_hyper_params": writes(edit_hyper_params),
    "tasks.get_hyper_params": reads(get_hyper_params),
    "tasks.delete_hyper_params": writes(delete_hyper_params),
    "tasks.edit_configuration": writes(edit_configuration),
    "tasks.delete_configuration": writes(delete_configuration),
    "tasks.get_configurations": reads(get_configurations),
    "tasks.add_or_update_artifacts": writes(add_or_update_artifacts),
    "tasks.delete_artifacts": writes(delete_artifacts),
    "tasks.add_or_update_model": writes(add_or_update_model),
    "tasks.delete_models": writes(delete_models),
}
