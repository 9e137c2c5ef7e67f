"""The page and plots of one explained prediction."""
