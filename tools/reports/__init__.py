"""Comparisons and their statistics, tables, figures, pages."""
