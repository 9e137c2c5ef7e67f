"""Fast paths of the layers: optional reading."""
