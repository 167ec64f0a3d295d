"""Speed and truth of the document stages beside peers: `python benchmarks/corpus.py near --data FOLDER …`."""

from __future__ import annotations

import sys

import filter_truth
import filters
import near
import tokenising

COMMANDS = {"filters": filters.main, "filter-truth": filter_truth.main, "near": near.main, "tokenise": tokenising.main}

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"usage: corpus.py {{{','.join(COMMANDS)}}} --data FOLDER …")
    COMMANDS[sys.argv[1]](sys.argv[2:])
