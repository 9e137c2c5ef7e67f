"""Plots, tables and pages from the files of finished runs.

Nothing here needs the model, the data or a trainer: reports read the files of run folders alone.
"""
