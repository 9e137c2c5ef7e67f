"""Lightning callbacks of every run."""
