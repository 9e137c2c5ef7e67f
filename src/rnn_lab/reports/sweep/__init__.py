"""The page and tables of a sweep."""
