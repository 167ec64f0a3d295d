"""The program that measures what xz makes of two texts. It runs alone, with nothing but the standard library in memory.

`python -I xz.py BYTES < TEXTS`: standard input holds the training text (so many bytes), then the held-out text; standard
output gets the compressed sizes in bytes, as JSON.
"""

from __future__ import annotations

import json
import lzma
import sys

SMALLEST_DICTIONARY = 4096


def dictionary_size(size: int) -> int:
    """A dictionary larger than the data, and no larger than that: the encoder takes about 11 times its size of memory."""
    return max(SMALLEST_DICTIONARY, size + 1)


def compressed_size(data: bytes | memoryview) -> int:
    """Bytes of raw LZMA2 (preset 9 extreme): no header and no checksum counts."""
    preset = 9 | lzma.PRESET_EXTREME
    chain = [{"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": dictionary_size(len(data))}]
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=chain))


def sizes(texts: bytes, training: int) -> dict[str, int]:
    """Compressed bytes of the held-out text alone, of the training text (the first `training` bytes), and of both."""
    view = memoryview(texts)
    return {
        "alone": compressed_size(view[training:]),
        "training": compressed_size(view[:training]) if training else 0,
        "both": compressed_size(view),
    }


def main() -> None:
    """See the module."""
    sys.stdout.write(json.dumps(sizes(sys.stdin.buffer.read(), int(sys.argv[1]))))


if __name__ == "__main__":
    main()
