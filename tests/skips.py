"""
In CI, a test that would skip fails, because a part is missing that CI installs. Only tests marked `gpu` may skip.

A plugin of pytest, loaded by `conftest.py`. `CI=true` in the environment means CI.
"""

import os
from collections.abc import Generator

import pytest


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a report of a skip into one of a failure that gives the reason of the skip."""
    is_expected_failure = hasattr(report, "wasxfail")
    if report.outcome == "skipped" and not is_expected_failure and os.environ.get("CI"):
        reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"In CI nothing may skip but tests marked `gpu`. {reason}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.get_closest_marker("gpu") is None:
        forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A whole module can skip, too: by `pytest.importorskip` at its top."""
    report = yield
    forbid_skip(report)
    return report
