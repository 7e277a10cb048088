"""A record to make others of."""

from lnsub.runs.records import Record

RECORD = Record(
    kind="imp",
    task="xnli",
    model="m",
    source="fr",
    target="fr",
    sparsity=0.1,
    score="magnitude",
    init="pretrained",
    seed=57,
    round=1,
    split="validation",
    metric="accuracy",
    value=0.1 + 0.2,  # needs all digits to come back the same
    n=2490,
    wall_s=1.5,
    ticket="ab",
)
