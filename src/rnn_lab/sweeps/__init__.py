"""Jobs of a sweep: their folders and names, retries, launchers, and searches."""
