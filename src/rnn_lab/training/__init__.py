"""One run: its config, trainer, callbacks, loggers and result."""
