"""Start one run as an agent of a W&B sweep does: W&B's own agent, without a server.

usage: python tests/tracking/sweep_agent.py SWEEP.YAML RUN_ID ARGUMENTS, which are JSON
"""

import json
import sys

from wandb.sdk.launch.sweeps.utils import load_sweep_config
from wandb.wandb_agent import Agent


def main() -> None:
    path, run_id, arguments = sys.argv[1:]
    config = load_sweep_config(path)
    agent = Agent(api=None, queue=None)
    agent._sweep_command = config["command"]
    values = {name: {"value": value} for name, value in json.loads(arguments).items()}
    order = {"type": "run", "run_id": run_id, "program": config["program"], "args": values}
    response = agent._process_command(order)
    if "exception" in response:
        sys.exit(response["exception"])
    (process,) = agent._run_processes.values()
    sys.exit(process.wait())


if __name__ == "__main__":
    main()
