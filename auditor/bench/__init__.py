"""Measure the audit on models whose truth is known: rows, figures, tables, pages, plots."""
