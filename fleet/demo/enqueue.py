"""Clones the registered toy task and enqueues the clones, through the real SDK: `enqueue.py '<json list of wishes>'`.

Each wish is {"name", "queue", "parameters"}; prints a JSON list of the clones' ids as its last line.
"""

import json
import sys

from clearml import Task

source = Task.get_task(project_name="fleet demo", task_name="toy training")
ids = []
for wish in json.loads(sys.argv[1]):
    clone = Task.clone(source_task=source, name=wish["name"])
    clone.update_parameters({f"Args/{key}": value for key, value in wish["parameters"].items()})
    Task.enqueue(clone, queue_name=wish["queue"])
    ids.append(clone.id)
print(json.dumps(ids), flush=True)
