"""Run folders, as the tests of reports have them."""

from tests.reports.conftest import make_run

__all__ = ("make_run",)
