"""datatrove's mending and quality filters with FineWeb-2's Portuguese values: `python datatrove_filters.py IN OUT WORKERS`.

IN holds .jsonl files, dealt to the workers. Runs in an environment of its own (`pip install datatrove[processing]`, spacy,
ftfy, orjson). Prints the seconds and the ids that stay. Its language filter is left out, for it would fetch a model.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter

LANGUAGE = "por_Latn"
STOP_WORDS = ["de", "a", "e", "o", "em", "do", "da", "que", "um", "no", "uma", "com", "para", "na", "é", "foi"]


def main(source: str, target: str, workers: int) -> None:
    """Run the pipeline and tell."""
    with tempfile.TemporaryDirectory() as logs:
        executor = LocalPipelineExecutor(
            pipeline=[
                JsonlReader(source, doc_progress=False),
                FTFYFormatter(),
                GopherRepetitionFilter(
                    language=LANGUAGE,
                    dup_para_frac=0,
                    dup_line_char_frac=0,
                    dup_para_char_frac=0,
                    dup_line_frac=0.325,
                    top_n_grams=((2, 0.093), (3, 0.117), (4, 0.139)),
                    dup_n_grams=((5, 0.19), (6, 0.172), (7, 0.154), (8, 0.142), (9, 0.131), (10, 0.12)),
                ),
                FineWebQualityFilter(
                    language=LANGUAGE,
                    short_line_thr=999,
                    char_duplicates_ratio=0.1,
                    line_punct_thr=0.154,
                    new_line_ratio=0.23,
                ),
                GopherQualityFilter(
                    language=LANGUAGE,
                    max_avg_word_length=13,
                    min_avg_word_length=3,
                    stop_words=STOP_WORDS,
                    max_non_alpha_words_ratio=0.814,
                ),
                JsonlWriter(target, compression=None),
            ],
            tasks=workers,
            workers=workers,
            logging_dir=logs,
            skip_completed=False,
        )
        started = time.perf_counter()
        executor.run()
        seconds = time.perf_counter() - started
    kept = [json.loads(line)["id"] for path in Path(target).glob("*.jsonl") for line in path.open(encoding="utf-8")]
    print(json.dumps({"seconds": seconds, "kept": kept}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
