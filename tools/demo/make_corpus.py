"""Merges the languages of an MLM data set into one, `multi`, for pre-training the embedded model.

``python -m tools.demo.make_corpus --texts ../shared/data/mlm --output corpus`` writes ``corpus/multi/train.parquet``
and ``validation.parquet``, rows of all languages in one seeded order.
"""

import argparse
from pathlib import Path

import pandas as pd


def join_languages(texts: Path, output: Path, seed: int = 0) -> dict[str, int]:
    """Writes the merged splits.

    Args:
        texts: a folder laid out as ``<language>/<split>.parquet`` with a column ``text``.
        output: where ``multi/<split>.parquet`` goes.
        seed: of the order of the rows.

    Returns:
        Rows written, by split.
    """
    counts = {}
    (output / "multi").mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        parts = [pd.read_parquet(path, columns=["text"]) for path in sorted(texts.glob(f"*/{split}.parquet"))]
        joined = pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)
        joined.to_parquet(output / "multi" / f"{split}.parquet", compression="zstd", index=False)
        counts[split] = len(joined)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    join_languages(options.texts, options.output)
