"""Reads what microw writes, with numpy and h5py alone: stores of activations, SAEs, and discoveries.

    store = Store("store/activations/run")           # activations.h5, or the folder that contains it
    x = store["8.resid_post"][:4096]                  # float32 [4096, width]
    sae = Sae.load("store/sae_models/run")
    z = sae.encode(x)                                 # float32 [4096, latents]
    found = Discovery("store/sae_models/run")         # discovery.h5, with names.csv beside it

docs/reference/store-format.md describes the files.
"""
from .dataset import RowDataset
from .discovery import Discovery, Name, Text, read_names
from .errors import StoreError
from .sae import Codes, Sae
from .store import SiteArray, Store

__version__ = "0.1.0"
__all__ = ["Codes", "Discovery", "Name", "RowDataset", "Sae", "SiteArray", "Store", "StoreError", "Text", "read_names"]
