"""Resumable uploads for Django, with sessions and chunks kept in the database."""

__version__ = "0.1.0"
