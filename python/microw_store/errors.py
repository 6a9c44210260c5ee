class StoreError(ValueError):
    """A file that is missing, unfinished, damaged or of another schema. The message begins with its path."""
