"""ClearML's toy example: a plain training script. It knows nothing of fleet."""

import argparse
import os
import time

from clearml import Task

task = Task.init(project_name="fleet demo", task_name="toy training")
parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--fail", type=int, default=0)
arguments = parser.parse_args()
task.execute_remotely(queue_name=None)  # registered here once; what follows runs where a queue leads it

print(f"devices: {os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}", flush=True)
for step in range(1, arguments.steps + 1):
    time.sleep(0.5)  # the training
    loss = 1.0 / step
    task.get_logger().report_scalar("loss", "train", value=loss, iteration=step)
    print(f"step {step} of {arguments.steps}: loss {loss:.3f}", flush=True)
if arguments.fail:
    raise RuntimeError("this task was asked to fail, to show what a failure looks like")
print("training done", flush=True)
