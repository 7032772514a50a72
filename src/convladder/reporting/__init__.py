"""The report: one HTML file that needs no other and no network, made from stored runs in seconds."""

from convladder.reporting.report import collect_runs, write_report

__all__ = ["collect_runs", "write_report"]
