"""Figures, tables and the report page of a run: functions of arrays and numbers, of no system."""

from tfdisent.privacy import data_summary
from tfdisent.report.comparison import Section, write_comparison
from tfdisent.report.page import Figure, write_report
from tfdisent.report.tables import metric_table, paper_column

__all__ = [
    "Figure",
    "Section",
    "data_summary",
    "metric_table",
    "paper_column",
    "write_comparison",
    "write_report",
]
