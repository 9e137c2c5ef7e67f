"""The report of a sweep: tables on the terminal, summary.csv and sweep.html."""
