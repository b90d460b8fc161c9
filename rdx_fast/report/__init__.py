"""Reports: one self-contained HTML file on what a bundle does on a test set."""

from rdx_fast.errors import MissingDependencyError

try:
    from rdx_fast.report.facts import Table
    from rdx_fast.report.gallery import Card
    from rdx_fast.report.limits import Limits
    from rdx_fast.report.page import Report, render, write_page
    from rdx_fast.report.report import make_report
except ModuleNotFoundError as error:
    if error.name not in ("jinja2", "matplotlib"):
        raise
    raise MissingDependencyError(error.name, "a report", "report") from error

__all__ = ["Card", "Limits", "Report", "Table", "make_report", "render", "write_page"]
