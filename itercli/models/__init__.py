"""Models by name, folder or hub id, resolved to a local folder and a digest.

Nothing here loads a model or touches the network unless asked to pull: `resolve` works
on file names, sizes and hashes, so planning a run stays light and works offline.

    spec = ModelSpec(path="tiny-rtl")
    model = resolve(spec)            # ResolvedModel(path=..., digest=..., source="shipped")
    pull("smollm2-135m")             # downloads once; heavy
"""

from __future__ import annotations

from itercli.models.digest import folder_digest
from itercli.models.known import KnownModel, cache_root, known, models_dir
from itercli.models.resolve import pull, resolve
from itercli.models.spec import ModelError, ModelNotFound, ModelNotHere, ModelSpec, ResolvedModel

__all__ = [
    "KnownModel",
    "ModelError",
    "ModelNotFound",
    "ModelNotHere",
    "ModelSpec",
    "ResolvedModel",
    "cache_root",
    "folder_digest",
    "known",
    "models_dir",
    "pull",
    "resolve",
]
