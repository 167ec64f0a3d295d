"""The only importer of Daft. Programs here are DataFrame programs: the same ones run in-process and on a Ray cluster.

Steps see ids and keys, never texts, where they group or sort: texts would have to fit into memory at once.
"""

from __future__ import annotations

from pathlib import Path

from treino import environment


def first_of_each(paths: list[Path], key: str) -> dict[str, str]:
    """{id: smallest id with the same key} for every row that is not itself the first of its key.

    Group order varies from run to run, so the survivor is the minimum, which does not.
    """
    environment.prepare()
    import daft

    if not paths:
        return {}
    rows = daft.read_parquet([str(path) for path in paths]).select("id", key)
    first = rows.groupby(key).agg(daft.col("id").min().alias("first"), daft.col("id").count().alias("copies"))
    repeated = first.where(daft.col("copies") != daft.lit(1))
    copies = rows.join(repeated, on=key).where(daft.col("id") != daft.col("first"))
    found = copies.select("id", "first").to_pydict()
    return dict(zip(found["id"], found["first"], strict=True))
