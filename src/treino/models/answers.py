"""The answers of a remote model, kept on disk: what was asked and paid for once is not asked again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treino import files
from treino.models.remote import Answer

FOLDER = "answers"
"""In the store of a runs folder, only for its owner to enter: the answers tell of the texts."""


class Answers:
    """Answers by the request that they were given to; of one model at one address.

    A line of JSON for each, {key, …}; one that broke off with the machine is passed over. The requests themselves are not
    kept, only their digests.
    """

    def __init__(self, folder: Path, address: str, model: str) -> None:
        self._of = [address.rstrip("/"), model]
        self.path = files.make_private(folder) / f"{files.digest(self._of)[:16]}.jsonl"
        self._known = dict(self._lines())

    def _lines(self) -> Any:
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):  # no other end of line
            try:
                row = json.loads(line)
                yield row.pop("key"), Answer.from_row(row)
            except (ValueError, TypeError, AttributeError, LookupError):
                continue

    def _key(self, body: Mapping[str, Any]) -> str:
        return files.digest([*self._of, body])

    def find(self, body: Mapping[str, Any]) -> Answer | None:
        """What a request was answered, if it was."""
        return self._known.get(self._key(body))

    def keep(self, body: Mapping[str, Any], answer: Answer) -> None:
        """Write an answer down."""
        key = self._key(body)
        self._known[key] = answer
        line = json.dumps({"key": key, **answer.to_row()}, ensure_ascii=False)
        files.append_line(self.path, line)
