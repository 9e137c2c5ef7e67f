"""A Hydra program that takes no time: the result of a search is known beforehand."""

import json
import os
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path=".", config_name="bowl")
def main(config: DictConfig) -> None:
    if config.x > config.too_large:
        raise ValueError(f"x={config.x} is too large")
    folder = Path(HydraConfig.get().runtime.output_dir)
    with (folder / "done_by.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(config.seconds)
    loss = (config.x - 1) ** 2 + {"good": 0.0, "bad": 1.0}[config.kind]
    result = {"val/loss": loss, "timing": {"wall_time_s": 3 - config.x}}
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
