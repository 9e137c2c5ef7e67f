"""Read the rows of files, whatever bytes they contain."""
