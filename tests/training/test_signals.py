"""Which signals stop a run cleanly, and which handlers they had before."""

import os
import signal

import pytest
from submitit.core.job_environment import SignalHandler
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.local.local import LocalJobEnvironment

from rnn_lab.errors import UserError
from rnn_lab.training.signals import PREEMPTION_SIGNALS, GracefulShutdown, Interrupted


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, *PREEMPTION_SIGNALS])
def test_signal_interrupts_at_once_and_waits_for_the_checkpoint_of_a_step(signum):
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted, match=signal.Signals(signum).name), GracefulShutdown():
        os.kill(os.getpid(), signum)
    with pytest.raises(Interrupted), GracefulShutdown(forwarded=True) as shutdown:
        shutdown.deferred = True
        os.kill(os.getpid(), signum if signum != signal.SIGINT else signal.SIGTERM)
        assert shutdown.received is not None
        shutdown.raise_received()
    assert signal.getsignal(signum) == before


def test_job_that_is_out_of_time_too_often_says_which_option_allows_more(tmp_path):
    job = DelayedSubmission(print)
    job.set_timeout(timeout_min=1, max_num_timeout=0)  # of a minute, submitit keeps all in reserve
    handler = SignalHandler(LocalJobEnvironment(), JobPaths(tmp_path, "1"), job)
    before = signal.signal(signal.SIGUSR2, handler.checkpoint_and_try_requeue)
    try:
        too_often = pytest.raises(UserError, match=r"SIGUSR2: .*timed-out too.*max_num_timeout")
        with too_often, GracefulShutdown():
            os.kill(os.getpid(), signal.SIGUSR2)
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize("signum", PREEMPTION_SIGNALS)
def test_preemption_signal_is_passed_to_its_handler_or_stays_ignored(signum):
    handled = []
    before = signal.signal(signum, lambda *received: handled.append(received[0]))
    try:
        with GracefulShutdown():
            os.kill(os.getpid(), signum)
        assert handled == [signum]
        signal.signal(signum, signal.SIG_IGN)
        with GracefulShutdown() as shutdown:
            os.kill(os.getpid(), signum)
        assert shutdown.received is None
    finally:
        signal.signal(signum, before)
