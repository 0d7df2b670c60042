"""Object stores: a local folder with no settings, and the buckets of clouds (`obstore`)."""

from workhorse.state.objects.folder import FolderStore
from workhorse.state.objects.opening import open_store

__all__ = ["FolderStore", "open_store"]
