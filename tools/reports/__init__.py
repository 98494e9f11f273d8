"""Comparisons, statistics, tables, figures and pages."""
