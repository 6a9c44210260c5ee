"""Rows as a data set for torch.utils.data.DataLoader, without an import of torch."""
from .store import Store


class RowDataset:
    """Rows of a site as float32 arrays: a map-style data set for torch's DataLoader.

    target: another site, whose rows are the second item of pairs (for transcoders). rows: only these, in this order.
    dtype "bfloat16" returns torch tensors. Each worker, forked or spawned, opens the file itself.
    """

    def __init__(self, store, site, target=None, rows=None, dtype="float32"):
        store = store if isinstance(store, Store) else Store(store)
        self._arrays = [store.array(name, dtype) for name in ([site] if target is None else [site, target])]
        self._rows = rows

    def __len__(self):
        return len(self._arrays[0]) if self._rows is None else len(self._rows)

    def __getitem__(self, index):
        row = index if self._rows is None else self._rows[index]
        values = [array[row] for array in self._arrays]
        return values[0] if len(values) == 1 else tuple(values)

    def __getitems__(self, indices):
        """Returns a batch at once; DataLoader calls this method if a data set has it."""
        rows = indices if self._rows is None else [self._rows[i] for i in indices]
        values = [array[rows] for array in self._arrays]
        return list(values[0]) if len(values) == 1 else list(zip(*values))
