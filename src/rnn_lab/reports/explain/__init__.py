"""The page of one explained text."""
