"""Trees that others write: the scanner that adopts them, and rsync to workers."""
