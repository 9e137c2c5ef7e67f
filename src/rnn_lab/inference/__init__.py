"""A finished run, put to use: its checkpoint, tested and asked for predictions."""
