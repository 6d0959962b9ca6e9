"""Stores: where bytes are kept."""

from __future__ import annotations

from typing import Any

from django.core.files.storage import FileSystemStorage, Storage, storages
from django.utils.module_loading import import_string

from ..conf import of_site, setting
from .base import Piece, Place, Store, Whole, Writer
from .filesystem import FilesystemStore

__all__ = ["Piece", "Place", "Store", "Whole", "Writer", "store_for"]


_made: dict[str, tuple[Storage, dict[str, Any], Any, Store]] = {}


def store_for(alias: str) -> Store:
    """Return the store that keeps uploads for the storage with this alias.

    The same one each time, for as long as the settings are what they were.
    """
    storage, site = storages[alias], of_site()
    location = getattr(storage, "location", None)
    known = _made.get(alias)
    # Held here, they cannot be others at the same place in memory.
    if known and known[0] is storage and known[1] is site and known[2] == location:
        return known[3]
    store = _class_for(storage)(alias)
    _made[alias] = storage, site, location, store
    return store


def _class_for(storage: Storage) -> type[Store]:
    chosen = setting("STORES")
    for ancestor in type(storage).__mro__:
        name = f"{ancestor.__module__}.{ancestor.__qualname__}"
        if name in chosen:
            return import_string(chosen[name])
    return FilesystemStore if _is_plain_folder(storage) else Store


def _is_plain_folder(storage: Storage) -> bool:
    """Tell whether a file put into the storage's folder is the same as one saved.

    A subclass that saves or opens in its own way (encrypting, say) is not.
    """
    return isinstance(storage, FileSystemStorage) and all(
        getattr(type(storage), name) is getattr(FileSystemStorage, name)
        for name in ("_save", "save", "_open", "open", "path")
    )
