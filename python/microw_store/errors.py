"""The error that all readers raise."""


class StoreError(ValueError):
    """A file is missing, unfinished, damaged or of another schema. The message begins with its path."""
