"""The workers of a study, and the trials that dead workers left."""

import contextlib
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Self

from filelock import FileLock
from optuna.exceptions import OptunaError
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from rnn_lab.io.locks import is_locked
from rnn_lab.sweeps.search.config import SearchOptions
from rnn_lab.sweeps.search.space import Space
from rnn_lab.sweeps.search.study import build_sampler, enqueue_trials

CLAIM_LOCK = ".search.lock"  # held while trials are enqueued and claimed
SEEN = "seen "  # prefix of the study's attributes with the last sign of life of a worker


class Worker:
    """One process that works on `study`, of `n_trials` trials, from the sweep's `folder`.

    It holds a lock file while it lives, so that another worker on this machine knows at once when
    it has died; one on another machine goes by its heartbeat in the study, which comes within
    `worker_timeout` seconds.

    Entering its context enqueues the trials of the study, unless another worker has.
    """

    def __init__(self, study: Study, space: Space, options: SearchOptions, folder: Path) -> None:
        self.study, self.space, self.options = study, space, options
        self.folder = folder.resolve()
        self.n_trials = options.n_trials
        self.host = socket.gethostname()
        self.name = f"{self.host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.lock = FileLock(self.folder / f".{self.name}.lock")
        self._claim_lock = FileLock(self.folder / CLAIM_LOCK)
        self._ended = threading.Event()
        self._heartbeat = threading.Thread(target=self._send_heartbeats, daemon=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._claim_lock:
            self.n_trials = enqueue_trials(self.study, self.space, self.options)
        self.lock.acquire()
        self._record_heartbeat(time.time())
        self._heartbeat.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._heartbeat.join()
        with contextlib.suppress(OptunaError, OSError):
            self._record_heartbeat(0.0)
        self.lock.release()
        Path(self.lock.lock_file).unlink(missing_ok=True)

    def claim(self, count: int) -> list[Trial]:
        """Claim up to `count` trials: first those that a dead worker left, then enqueued ones.

        Their parameters are the values to try. Returns fewer where fewer are left; none when there
        is nothing left for this worker.
        """
        claimed: list[FrozenTrial] = []
        with self._claim_lock:
            trials = self.study.get_trials(deepcopy=False)[: self.n_trials]
            trials = [trial for trial in trials if not trial.state.is_finished()]
            trials.sort(key=lambda trial: trial.state == TrialState.WAITING)  # RUNNING goes first
            for trial in trials:
                if len(claimed) < count and self._claim(trial):
                    claimed.append(trial)
        return [self._choose(trial) for trial in claimed]

    def _claim(self, trial: FrozenTrial) -> bool:
        """Make `trial` this worker's, unless it is another's; return whether it is."""
        storage, trial_id = self.study._storage, trial._trial_id
        if trial.state == TrialState.WAITING:
            if not storage.set_trial_state_values(trial_id, state=TrialState.RUNNING):
                return False
        elif self._is_alive(trial.user_attrs.get("worker")):
            return False
        storage.set_trial_user_attr(trial_id, "worker", self.name)
        return True

    def _choose(self, claimed: FrozenTrial) -> Trial:
        self.study.sampler = build_sampler(self.options.sampler, claimed.number)
        trial = Trial(self.study, claimed._trial_id)
        for dimension in self.space.dimensions:
            dimension.suggest(trial)
        return trial

    def _is_alive(self, name: object) -> bool:
        # None: it died between two lines of `_claim`. A path is no worker's name, and an untrusted
        # study must not say which file is opened.
        if not isinstance(name, str) or os.sep in name:
            return False
        seen = self.study.user_attrs.get(SEEN + name)
        if not isinstance(seen, dict):
            return False
        lock = self.folder / f".{name}.lock"
        if seen.get("host") == self.host and lock.exists():
            return is_locked(lock)
        at = seen.get("at")
        return isinstance(at, int | float) and time.time() - at < self.options.worker_timeout

    def _send_heartbeats(self) -> None:
        while not self._ended.wait(self.options.worker_timeout / 4):
            with contextlib.suppress(OptunaError, OSError):  # the next one may succeed
                self._record_heartbeat(time.time())

    def _record_heartbeat(self, at: float) -> None:
        self.study.set_user_attr(SEEN + self.name, {"host": self.host, "at": at})
