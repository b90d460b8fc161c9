"""Which tests run on one worker, one after the other, whatever the others do.

By their names: the marks that pytest-xdist 3.8 has for it find no tests in pytest 9.2.
"""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (
    ("test_line.py", "line"),  # parts come at a rate: one station and its PLC at a time
    ("test_examples.py::test_controller", "line"),
    ("test_examples.py::test_plc", "line"),
    ("test_site.py", "site"),  # built once
    ("test_real_images.py", "real images"),  # one training for all
    ("test_browser.py", "real images"),
    ("test_browser_jobs.py", "jobs on the page"),  # one station and its browsers for all
    ("test_browser_live.py", "live page"),
    ("test_browser_parts.py", "parts on the page"),
    ("test_browser_trouble.py", "trouble on the page"),
    ("test_contents_of_the_other_method", "other method"),  # likewise
    ("test_aot.py", "kernels"),  # built once, while the other worker does something else
    ("test_cli.py::test_plan", "kernels"),
    ("tests/gpu/", "gpu"),  # they share it, and count its memory
    ("test_driver.py::test_on_the_gpu", "gpu"),
)
NETWORK = re.compile(r"rd4ad|rd-expert|wide_resnet50_2|resnet\d+|efficientnet_lite0")


def group(nodeid: str) -> str:
    """All that need one network are a group too: the first of them exports it."""
    for start, name in TOGETHER:
        if start in nodeid:
            return name
    network = {name for name in NETWORK.findall(nodeid.partition("[")[2])}
    return " ".join(sorted(network)) if len(network) == 2 else nodeid


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)
