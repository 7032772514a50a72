"""Reporting: tables, plots, pictures and the report."""
