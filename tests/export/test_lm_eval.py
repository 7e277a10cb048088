"""An exported ticket in EleutherAI's evaluation harness, on a multilingual task that lies here.

Runs where the extra ``lm-eval`` is installed.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from lnsub.export.folder import export
from lnsub.models.inherited import Theta0
from tests.support.decoders import TEXT, decoder_config, make_tokenizer
from tests.support.ticket_factory import ticket

WORDS = " ".join(TEXT).split()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec("lm_eval"), reason="needs the extra lm-eval"),
]

TASK = """
task: story_{language}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {file}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{[first, second]}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
"""


def stories(seed: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "start": " ".join(rng.choice(WORDS, 4)),
            "first": " ".join(rng.choice(WORDS, 3)),
            "second": " ".join(rng.choice(WORDS, 3)),
            "label": int(rng.integers(2)),
        }
        for _ in range(12)
    ]


def test_the_harness_scores_an_exported_ticket_as_the_model_itself_says(tmp_path: Path) -> None:
    # Over bytes, so that what precedes an ending is the same tokens with and without it.
    base = str(tmp_path / "base")
    tokenizer = make_tokenizer(tmp_path / "base", sentencepiece=False, start=True)
    torch.manual_seed(0)
    LlamaForCausalLM(decoder_config("llama", len(tokenizer))).save_pretrained(base)
    theta_0 = Theta0.load(base)
    rng = np.random.default_rng(0)
    masks = {name: rng.random(theta_0[name].shape) < 0.6 for name in theta_0}
    found = ticket(masks, base_model=base, base_fingerprint=theta_0.fingerprint, task="clm", sparsity=0.4)
    folder = export(found.save(tmp_path / "s0.40.safetensors"), tmp_path / "model")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    for seed, language in enumerate(("fr", "zh")):
        lines = "".join(f"{json.dumps(story)}\n" for story in stories(seed))
        (tmp_path / f"{language}.jsonl").write_text(lines)
        text = TASK.format(language=language, file=tmp_path / f"{language}.jsonl")
        (tasks / f"story_{language}.yaml").write_text(text)
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--include_path", str(tasks)]
    command += [
        "--model_args",
        f"pretrained={folder},dtype=float32,add_bos_token=True",
        "--tasks",
        "story_fr,story_zh",
        "--device",
        "cpu",
    ]
    command += ["--log_samples", "--batch_size", "4", "--output_path", str(tmp_path / "out")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    for seed, language in enumerate(("fr", "zh")):
        (file,) = (tmp_path / "out").rglob(f"samples_story_{language}_*.jsonl")
        samples = sorted((json.loads(line) for line in file.open()), key=lambda sample: sample["doc_id"])
        for sample, story in zip(samples, stories(seed), strict=True):
            scores = by_hand(folder, story)
            assert [float(answer[0]) for (answer,) in sample["resps"]] == pytest.approx(scores, abs=1e-3)
            assert sample["acc"] == (int(np.argmax(scores)) == story["label"])


@torch.no_grad()
def by_hand(folder: Path, story: dict[str, object]) -> list[float]:
    """The log-likelihood of both endings, by plain transformers."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    scores = []
    for ending in ("first", "second"):
        before, whole = (
            tokenizer(text, return_tensors="pt")["input_ids"][0]
            for text in (story["start"], f"{story['start']} {story[ending]}")
        )
        likely = model(whole[None]).logits[0].double().log_softmax(-1)
        scores.append(sum(float(likely[at - 1, whole[at]]) for at in range(len(before), len(whole))))
    return scores
