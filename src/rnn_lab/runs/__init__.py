"""The files of a run folder: what they are called, how they are read, and the status they give it.

A file that is missing, empty, truncated or malformed raises a CheckpointError, one line that names
the file.
"""
