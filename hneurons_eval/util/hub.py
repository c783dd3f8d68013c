"""Directories of neurons and probes on the Hub, fetched and uploaded as they are; nothing in them is read.

```python
directory = fetch("owner/name", revision="v1")  # a local directory is returned as it is
url = upload(directory, "owner/name", message="Upload probe")
```
"""

import os
import re
import shutil
from pathlib import Path

from hneurons_eval.util.files import CARD, PROBE_FILES

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class HubError(ValueError):
    """A repository that cannot be read or written; the message says what to do."""


def is_hub_id(name: str | None) -> bool:
    """Whether a name has the form `owner/name` of the Hub."""
    return name is not None and _HUB_ID.fullmatch(name) is not None


def fetch(name: str | Path, revision: str | None = None) -> Path:
    """The local directory of a repository of the Hub, or a local directory itself.

    Only the files of neurons and probes are fetched.

    Raises:
        HubError: no such directory or repository, or a revision of a local directory.
    """
    import huggingface_hub

    text = str(name)
    local = Path(os.path.expanduser(text))
    if text and os.path.isdir(local):  # an empty name would be the working directory
        if revision is not None:
            raise HubError(f"{text} is a local directory, which has no revision {revision!r}; leave it out")
        return local
    if not is_hub_id(text):
        raise HubError(f"{text!r} is neither a local directory nor a repository on the Hub (owner/name)")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                text, revision=revision, allow_patterns=[*PROBE_FILES, CARD], library_name="hneurons-eval"
            )
        )
    except Exception as error:  # not found, no network, no right to read: the client has no common class for these
        at = f" at {revision}" if revision else ""
        raise HubError(f"cannot get {text}{at} from the Hub: {_reason(error)}") from error


def upload(
    directory: str | Path, repo_id: str, *, message: str, private: bool = False, revision: str | None = None
) -> str:
    """Upload a directory to a repository of the Hub, which is created if needed.

    The token is that of `hf auth login`, or `HF_TOKEN`.

    Args:
        directory: whose files are uploaded.
        repo_id: `owner/name`.
        message: of the commit.
        private: make a new repository private.
        revision: branch to commit to; default main.

    Returns:
        Address of the commit.

    Raises:
        HubError: not the name of a repository, or the Hub refused.
    """
    import huggingface_hub

    if not is_hub_id(repo_id):
        raise HubError(f"a repository on the Hub is named owner/name, found {repo_id!r}")
    try:
        api = huggingface_hub.HfApi(library_name="hneurons-eval")
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo_id, folder_path=directory, revision=revision, commit_message=message)
    except Exception as error:  # no token, no network, no right to write: the client has no common class for these
        raise HubError(
            f"cannot write to {repo_id} on the Hub: {_reason(error)}; log in with `hf auth login`, or set HF_TOKEN"
        ) from error
    return str(done.commit_url)


def copy_files(source: Path, target: Path) -> None:
    """Copy the files of a probe directory, as far as they are there."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (*PROBE_FILES, CARD):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
