"""Directories of neurons and probes on the Hub, fetched and uploaded as they are; nothing in them is read.

```python
directory = fetch("owner/name", revision="v1")  # a local directory is returned as it is
url = probe.push("owner/name")                  # of a class that is `OnHub`
```
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

from hneurons_eval.util.cards import About, is_hub_id
from hneurons_eval.util.files import CARD, PROBE_FILES


class HubError(ValueError):
    """A repository that cannot be read or written; the message says what to do."""


class OnHub:
    """Pushing to the Hub and loading from it, for a class with `save_pretrained` and `load`."""

    def save_pretrained(self, directory: str | Path, about: About | None = None, name: str | None = None) -> None:
        """Write a directory as `push` uploads it, with a card.

        Args:
            directory: where to.
            about: what the card should say further.
            name: of the repository, for the card; default the directory.
        """
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path, /) -> Self:
        raise NotImplementedError

    def push(
        self,
        repo_id: str,
        about: About | None = None,
        source: str | Path | None = None,
        *,
        private: bool = False,
        revision: str | None = None,
        message: str | None = None,
    ) -> str:
        """Upload to a repository of the Hub with a card; the repository is created if needed.

        The token is that of `hf auth login`, or `HF_TOKEN`.

        Args:
            repo_id: `owner/name`.
            about: what the card should say further.
            source: the directory of a probe, whose further files are uploaded as well: baselines, activity, selections
                on shuffled labels, and the stability of its neurons.
            private: make a new repository private.
            revision: branch to commit to; default main.
            message: of the commit.

        Returns:
            Address of the commit.

        Raises:
            HubError: not the name of a repository, or the Hub refused.
        """
        with tempfile.TemporaryDirectory(prefix="hneurons-push-") as directory:
            if source is not None:
                copy_files(Path(source), Path(directory))
            self.save_pretrained(directory, about, repo_id)
            return upload(directory, repo_id, message or f"Upload {type(self).__name__}", private, revision)

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """Load from a repository of the Hub, or from a directory like one.

        Raises:
            HubError: no such directory or repository.
            ValueError: as `load`.
        """
        return cls.load(fetch(name, revision))


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


def upload(directory: str, repo_id: str, message: str, private: bool, revision: str | None) -> str:
    """Upload a directory to a repository of the Hub; arguments, result and errors as of `OnHub.push`."""
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
