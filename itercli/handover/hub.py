"""Upload a folder to a model hub, with the token from its usual places (`hf auth login`, $HF_TOKEN)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from itercli.handover.folder import MARKER
from itercli.handover.versions import HandoverError
from itercli.models.hub import is_hub_id, offline

PREFIX = "hub:"


def hub_id(target: str) -> str | None:
    """ORG/NAME of ``hub:ORG/NAME``; None for a folder.

    Raises:
        HandoverError: It is no hub id, or the hub is forbidden here.
    """
    if not target.startswith(PREFIX):
        return None
    repo = target.removeprefix(PREFIX)
    if not is_hub_id(repo):
        raise HandoverError(f"--to {target}: a hub's repository is hub:ORG/NAME")
    if offline():
        raise HandoverError(f"--to {target}: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it")
    return repo


def check_access(repo: str) -> None:
    """Refuse before any work if nobody is logged in.

    Raises:
        HandoverError: There is no token.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise HandoverError(f"no token to write to {repo} with: run `hf auth login`, or set HF_TOKEN")


def upload(folder: Path, repo: str, kind: Literal["model", "dataset"], *, private: bool) -> str:
    """Make the repository if it isn't there, and upload the folder in one commit.

    Returns:
        The commit's address.

    Raises:
        HandoverError: The hub refused, or the connection failed.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type=kind,
            commit_message="Exported by itercli",
            ignore_patterns=[MARKER],
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HandoverError(
            f"could not upload to {repo}: {first}; the export itself is in {folder}"
        ) from error
    return str(getattr(done, "commit_url", done))
