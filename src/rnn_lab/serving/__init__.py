"""Serve finished runs over HTTP: a page, predictions, explanations and labelled files."""
