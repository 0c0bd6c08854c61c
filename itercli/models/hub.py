"""Hub models that are already in the local Hugging Face cache.

Finding one reads two small files; huggingface_hub is imported only to download.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from itercli.models.spec import ModelError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "tokenizer*", "*.py"]


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """One commit of a hub model in the local cache."""

    repo: str
    commit: str
    path: Path


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form of a hub id, ORG/NAME."""
    return _HUB_ID.fullmatch(text) is not None and ".." not in text


def hub_cache() -> Path:
    """The hub's cache folder, found as huggingface_hub does."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface" / "hub"


def offline() -> bool:
    """Whether the environment forbids the hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    return any(
        os.environ.get(v, "").strip().upper() in {"1", "ON", "YES", "TRUE"}
        for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def find_snapshot(repo: str, revision: str | None = None) -> HubSnapshot | None:
    """A complete snapshot of `repo` in the local cache, or None.

    Args:
        repo: Hub id.
        revision: Branch, tag or full commit; "main" if None.
    """
    folder = hub_cache() / f"models--{repo.replace('/', '--')}"
    wanted = revision or "main"
    ref = folder / "refs" / wanted
    if ref.is_file():
        commit = ref.read_text("utf-8").strip()
    elif _COMMIT.fullmatch(wanted):
        commit = wanted
    else:
        return None
    path = folder / "snapshots" / commit
    return HubSnapshot(repo, commit, path) if is_complete(path) else None


def is_complete(path: Path) -> bool:
    """Whether a folder holds a config and every weight file that its index names."""
    if not (path / "config.json").is_file():
        return False
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (path / index).is_file():
            try:
                shards = set(json.loads((path / index).read_text("utf-8"))["weight_map"].values())
            except (OSError, ValueError, KeyError, AttributeError):
                return False
            return all((path / shard).is_file() for shard in shards)
    return any(f.is_file() for pattern in ("*.safetensors", "*.bin") for f in path.glob(pattern))


def cached() -> list[HubSnapshot]:
    """All complete models in the local hub cache that a branch or tag points to."""
    found: dict[tuple[str, str], HubSnapshot] = {}
    for refs in sorted(hub_cache().glob("models--*/refs")):
        repo = refs.parent.name.removeprefix("models--").replace("--", "/")
        for ref in sorted(f for f in refs.rglob("*") if f.is_file()):
            snapshot = find_snapshot(repo, ref.relative_to(refs).as_posix())
            if snapshot:
                found[repo, snapshot.commit] = snapshot
    return list(found.values())


def download(repo: str, revision: str | None = None) -> HubSnapshot:
    """Download a model to the local hub cache, with huggingface_hub's own progress.

    Raises:
        ModelError: Offline, no such model, no access, or the connection failed.
    """
    if offline():
        raise ModelError(
            f"can't download {repo!r}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; "
            "unset it, or give a local folder"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot_download(repo, revision=revision, allow_patterns=_WANTED)
        if find_snapshot(repo, revision) is None:
            # Older models have only pickled weights; a second call fetches just these.
            snapshot_download(repo, revision=revision, allow_patterns=[*_WANTED, "pytorch_model*.bin"])
    except HfHubHTTPError as error:
        raise ModelError(
            f"the hub refused {repo!r}: {str(error).splitlines()[0]}; check the id and revision, "
            "and for gated models log in with `hf auth login`"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"can't download {repo!r}: {type(error).__name__}: {first}; check the connection "
            "(HF_ENDPOINT names a mirror), or copy the model's folder here and give its path"
        ) from error
    snapshot = find_snapshot(repo, revision)
    if snapshot is None:
        raise ModelError(
            f"{repo!r} was downloaded to {hub_cache()}, but has no config.json with weights: not a model"
        )
    return snapshot
