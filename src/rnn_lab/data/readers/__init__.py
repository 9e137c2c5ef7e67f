"""Rows of files, whatever bytes they hold."""
