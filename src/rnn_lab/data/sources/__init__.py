"""The built-in data sources, one module each, and the registry."""
