"""metrics.csv, which a resumed run continues: no row is lost and none is written twice."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from rnn_lab.io.atomic import atomic_write, read_text, translating_os_errors


class MetricsCsv(CSVLogger):
    """Lightning's CSVLogger on the file metrics.csv of a run folder."""

    def __init__(self, folder: Path, *, keep: int = 0) -> None:
        """Keep the first `keep` rows of an existing file; with 0, start over."""
        super().__init__(folder, name="", version="", flush_logs_every_n_steps=1)
        self._keep = keep

    @property
    @rank_zero_experiment
    def experiment(self) -> "_MetricsFile":
        """The writer; only the first process has one."""
        if self._experiment is None:
            self._experiment = _MetricsFile(self.log_dir, self._keep)
        return self._experiment  # type: ignore[return-value]

    @property
    def rows(self) -> int:
        """The number of rows of the file."""
        return self.experiment.rows


class _MetricsFile(ExperimentWriter):
    def __init__(self, log_dir: str, keep: int) -> None:
        super().__init__(log_dir)
        self._path = Path(self.metrics_file_path)
        kept = read_metric_rows(self._path)[:keep] if keep else []
        self.rows = len(kept)
        self.metrics_keys = sorted({name for row in kept for name in row})
        self._rewrite(kept)

    def _check_log_dir_exists(self) -> None:
        pass  # Lightning's would remove the file

    def save(self) -> None:
        if not self.metrics:
            return
        new_keys = self._record_new_keys()
        metrics, self.metrics = self.metrics, []  # not written again where writing fails
        if new_keys:  # the header changes
            self._rewrite(read_metric_rows(self._path) + metrics)
        else:
            # "r+" and not "a", which would continue a deleted file without its beginning.
            with (
                translating_os_errors(self._path),
                self._path.open("r+", encoding="utf-8", newline="") as file,
            ):
                file.seek(0, os.SEEK_END)
                csv.DictWriter(file, self.metrics_keys).writerows(metrics)
        self.rows += len(metrics)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            self._path.unlink(missing_ok=True)
            return
        with atomic_write(self._path, newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


def read_metric_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv, each with the metrics that it has; none without a file.

    A last row that a kill cut off is left out.
    """
    if not path.exists():
        return []
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(whole)]
