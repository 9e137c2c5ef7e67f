"""Which signals stop a run cleanly, and which handlers they had before."""

import os
import signal

import pytest

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
