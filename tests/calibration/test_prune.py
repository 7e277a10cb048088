"""Tickets without training from the command line, against second implementations of the papers' formulas."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lnsub.analysis.overlap.comparison import compare
from lnsub.data.batching import BatchRows
from lnsub.models.inherited import Theta0, inherited_masks
from lnsub.runs.folder import RunFolder
from lnsub.tasks.clm import CausalLM
from lnsub.tasks.mlm import WikipediaMLM
from lnsub.tickets.combining import combine
from lnsub.tickets.ticket import Ticket
from lnsub.training.module import SubnetModule
from tests.support.calibrations import LANGUAGES, config_of, prune, ticket, write_text
from tests.support.command import said
from tests.support.tiny_checkpoints import save_tiny

MODELS: dict[str, tuple[str, type[Any]]] = {
    "bert": ("mlm", WikipediaMLM),
    "llama": ("clm", CausalLM),
    "gpt2": ("clm", CausalLM),
}


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {kind: str(save_tiny(tmp_path_factory.mktemp(kind), kind)) for kind in MODELS}


@pytest.fixture
def place(tmp_path: Path, text: Path, models: dict[str, str], cache: Path) -> Any:
    """The configuration and the output folder of a model."""
    return lambda kind: (config_of(tmp_path, MODELS[kind][1].__name__, models[kind], text), tmp_path / "runs")


def examples(kind: str, base: str, text: Path, language: str, seed: int) -> tuple[SubnetModule, list[dict[str, Any]]]:
    """The model, and the seven examples of a sample, each a batch of its own, so that nothing is padded."""
    data = MODELS[kind][1](language, base, str(text), max_length=12, seed=seed)
    loader = data.train_dataloader()
    drawn = np.random.default_rng([seed, 211109839]).permutation(len(loader.sampler.lengths))[:7]
    module = SubnetModule(data.task, base, seed=seed).eval()
    return module, [loader.dataset[BatchRows(0, np.array([row]))] for row in drawn]


def inputs_of(module: SubnetModule, batches: list[dict[str, Any]]) -> dict[nn.Module, torch.Tensor]:
    """Everything that each layer is given, [tokens, features] in double precision."""
    given = defaultdict(list)
    handles = [
        layer.register_forward_hook(lambda layer, x, y: given[layer].append(x[0].double().flatten(0, -2)))
        for layer in module.model.modules()
        if isinstance(getattr(layer, "weight", None), nn.Parameter) and not isinstance(layer, nn.Embedding)
    ]
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for handle in handles:
        handle.remove()
    return {layer: torch.cat(tensors) for layer, tensors in given.items()}


@pytest.mark.parametrize("kind", MODELS)
def test_wanda_keeps_what_the_papers_formula_keeps(kind, place, models, text):
    config, output = place(kind)
    assert prune(config, output, "wanda", "--sparsities", "0.3,0.5", "--seeds", "5", "--pooled") == 0
    pooled: dict[str, list[torch.Tensor]] = defaultdict(list)

    def expected(weight: torch.Tensor, x: torch.Tensor, sparsity: float) -> torch.Tensor:
        # Sun et al. (2024), section 3: S = |W| * ||X||_2, sorted within each row of W [out, in].
        score = weight.abs().double() * x.norm(p=2, dim=0)
        order = torch.sort(score, dim=-1, stable=True).indices[:, : round(sparsity * weight.shape[1])]
        return torch.ones_like(weight, dtype=torch.bool).scatter(1, order, False)

    def check(language: str, given: dict[str, torch.Tensor], module: SubnetModule) -> None:
        for sparsity in (0.3, 0.5):
            found = ticket(output, MODELS[kind][0], language, 5, sparsity)
            bits = found.bits()
            assert bits.keys() == given.keys()
            for name, x in given.items():
                weight = module.subnet.weights[name].detach()
                turned = kind == "gpt2"  # [in, out]
                mask = expected(weight.T if turned else weight, x, sparsity)
                assert torch.equal(torch.from_numpy(bits[name]), mask.T if turned else mask), (name, sparsity)
            p = found.provenance
            assert (p.score, p.scope, p.schedule, p.granularity) == ("wanda", "row", "one-shot", "weight")
            assert json.loads(p.calibration)["examples"] == (7 if language != "en+fr+ur" else 21)

    for language in LANGUAGES:
        module, batches = examples(kind, models[kind], text, language, 5)
        by_module = inputs_of(module, batches)
        layers = dict(module.model.base_model.named_modules())
        given = {name: by_module[layers[name.removesuffix(".weight")]] for name in module.subnet.weights}
        check(language, given, module)
        for name, x in given.items():
            pooled[name].append(x)
    check("en+fr+ur", {name: torch.cat(parts) for name, parts in pooled.items()}, module)
    (record, _) = RunFolder.of(output, MODELS[kind][0], "en", 5).records("prune")
    assert (record.metric, record.value, record.n) == (
        "tokens",
        sum(b["attention_mask"].sum() for b in examples(kind, models[kind], text, "en", 5)[1]),
        7,
    )


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("score", ["wanda", "lape"])
def test_layer_by_layer_gives_the_same_tickets(kind, score, place, tmp_path):
    config, output = place(kind)
    given = ["--sparsities", "0.4"] if score == "wanda" else ["--lape-rate", "0.25", "--lape-quantile", "0.6"]
    assert prune(config, output, score, *given) == 0
    assert prune(config, tmp_path / "by-layer", score, *given, "--layer-by-layer") == 0
    for path in sorted(output.rglob("*.safetensors")):
        assert Ticket.load(path).checksum == Ticket.load(tmp_path / "by-layer" / path.relative_to(output)).checksum


def lape_of_the_paper(over_zero: torch.Tensor, tokens: torch.Tensor, rate: float, quantile: float) -> list[set[int]]:
    """The steps of Tang et al.'s code, for activation counts [neurons, languages]; the neurons of each language."""
    probs = over_zero / tokens
    normed = probs / probs.sum(dim=-1, keepdim=True)
    normed[torch.isnan(normed)] = 0
    log_probs = torch.where(normed > 0, normed.log(), 0)
    entropy = -torch.sum(normed * log_probs, dim=-1)
    flattened = probs.flatten()
    top_prob_value = flattened.kthvalue(round(len(flattened) * quantile)).values.item()
    top_position = (probs > top_prob_value).sum(dim=-1)
    entropy[top_position == 0] = torch.inf
    _, index = entropy.topk(round(len(entropy) * rate), largest=False)
    selected = probs[index].transpose(0, 1)
    lang, indice = torch.where(selected > top_prob_value)
    return [set(index[indice[lang == k]].tolist()) for k in range(len(selected))]


@pytest.mark.parametrize("kind", MODELS)
def test_lape_keeps_the_neurons_that_the_papers_code_chooses(kind, place, models, text, capsys):
    config, output = place(kind)
    assert prune(config, output, "lape", "--seeds", "5", "--lape-rate", "0.25", "--lape-quantile", "0.6") == 0
    task = MODELS[kind][0]
    found = {language: ticket(output, task, language, 5, 0.75) for language in LANGUAGES}
    units = found["en"].units
    counts, tokens = [], []
    for language in LANGUAGES:
        module, batches = examples(kind, models[kind], text, language, 5)
        positive: list[list[torch.Tensor]] = [[] for _ in units.groups]
        base = module.model.base_model
        for n, group in enumerate(units.groups):
            if kind == "llama":
                gate = base.get_submodule(f"{group.name}.gate_proj")
                function = nn.functional.silu
            else:
                gate = base.get_submodule(
                    f"{group.name}.c_fc" if kind == "gpt2" else f"{group.name}.intermediate.dense"
                )
                function = base.config.activation_function if kind == "gpt2" else base.config.hidden_act
                function = (
                    (lambda x: nn.functional.gelu(x, approximate="tanh")) if "new" in function else nn.functional.gelu
                )
            gate.register_forward_hook(
                lambda m, x, y, to=positive[n], f=function: to.append((f(y) > 0).flatten(0, -2).sum(0))
            )
        with torch.no_grad():
            for batch in batches:
                module(batch)
        counts.append(torch.cat([torch.stack(parts).sum(0) for parts in positive]))
        tokens.append(sum(int(batch["attention_mask"].sum()) for batch in batches))
    expected = lape_of_the_paper(torch.stack(counts, 1).double(), torch.tensor(tokens), 0.25, 0.6)
    assert any(expected)
    for language, neurons in zip(LANGUAGES, expected, strict=True):
        kept = units.kept(found[language].bits())
        assert set(np.flatnonzero(np.concatenate([kept[group.name] for group in units.groups])).tolist()) == neurons


def test_every_score_and_granularity_makes_tickets_that_compare_like_others(place, models):
    config, output = place("llama")
    for score, granularity in [
        ("magnitude", "weight"), ("random", "head"), ("fisher", "neuron"), ("wanda", "row"),
    ]:  # fmt: skip
        here = output / f"{score}-{granularity}"
        options = ["--sparsities", "0.5", "--seeds", "5,6", "--granularity", granularity]
        assert prune(config, here, score, *options, "--pooled", languages="en,fr") == 0
        found = [Ticket.load(path) for path in sorted(here.rglob("*.safetensors"))]
        assert len(found) == 6
        assert {t.provenance.granularity for t in found} == {granularity}
        languages = [t for t in found if "+" not in t.provenance.language]
        theta_0 = Theta0.load(models["llama"])
        inherited = inherited_masks(theta_0, languages)
        assert [len(inherited), inherited[0].provenance.units] == [1, languages[0].provenance.units]
        compared = compare(languages, inherited=inherited, theta_0=theta_0, indices=True)
        assert compared.pairs[0]["departure_overlap"] is not None or score == "magnitude"
        if score == "magnitude":
            assert {t.checksum for t in found} == {inherited[0].checksum}
        both = combine(languages, "union")
        assert (both.provenance.granularity, both.provenance.units) == (granularity, languages[0].provenance.units)


def test_done_tickets_are_not_made_again_and_what_is_missing_is(place, tmp_path, capsys):
    config, output = place("bert")
    options = ["--sparsities", "0.5", "--seeds", "5", "--pooled"]
    assert prune(config, output, "fisher", *options, languages="en,fr") == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in output.rglob("*.safetensors")}
    lost = RunFolder.of(output, "mlm", "en+fr", 5).ticket(0.5)
    checksum = Ticket.load(lost).checksum
    lost.unlink()
    capsys.readouterr()
    assert prune(config, output, "fisher", *options, languages="en,fr") == 0
    assert "sample 2/2 · fisher · fr seed5 · 7 examples" in capsys.readouterr().err
    assert Ticket.load(lost).checksum == checksum
    assert all(path == lost or path.stat().st_mtime_ns == before[path][0] for path in before)
    assert prune(config, output, "fisher", *options, languages="en,fr") == 0
    assert "no sample" in capsys.readouterr().out
    # The configuration in a run's folder repeats it.
    again = RunFolder.of(output, "mlm", "fr", 5).config
    assert prune(again, tmp_path / "again", "fisher", "--sparsities", "0.5", languages="fr") == 0
    assert ticket(tmp_path / "again", "mlm", "fr", 5, 0.5).checksum == ticket(output, "mlm", "fr", 5, 0.5).checksum


@pytest.mark.parametrize(
    ("score", "options", "told"),
    [
        ("wand", "--sparsities 0.5", "Unknown score 'wand' (did you mean wanda?)"),
        ("wanda", "", "Name at least one sparsity"),
        ("wanda", "--sparsities 1.5", "--sparsities has 1.5: each must be a number above 0 and below 1"),
        ("wanda", "--sparsities 0.5 --seeds -1", "--seeds has -1"),
        ("wanda", "--sparsities 0.5 --granularity neuron --scope row", "--scope row ranks single weights"),
        ("wanda", "--sparsities 0.5 --labels sampled", "--labels requires --score fisher"),
        ("wanda", "--sparsities 0.5 --lape-rate 0.1", "require --score lape"),
        ("taylor", "--sparsities 0.5 --layer-by-layer", "needs no gradients"),
        ("lape", "--sparsities 0.5", "--lape-rate is the share"),
        ("lape", "--pooled", "drop --pooled"),
        ("lape", "--lape-quantile 2", "--lape-quantile is 2.0"),
        ("wanda", "--sparsities 0.5 --scope rows", "Unknown scope 'rows' (did you mean row?)"),
        ("wanda", "--sparsities 0.5 -- --model.ticket=x", "leave model.ticket out"),
        ("wanda", "--sparsities 0.5 -- --head_seed=5", "leave head_seed out"),
        ("wanda", "--sparsities 0.5 -- --data.init_args.train_sample=1", "leave data.init_args.train_sample out"),
        ("wanda", "--sparsities 0.5 -- --seed_everything=3", "differs between runs"),
    ],
)
def test_bad_options_are_one_sentence(score, options, told, place, capsys):
    config, output = place("llama")
    given = ["prune", "--config", str(config), "--output", str(output), "--score", score, "--languages", "en,fr"]
    assert told in said(capsys, [*given, *options.split()])


def test_a_folder_of_another_score_or_of_a_fit_is_refused(place, capsys):
    config, output = place("llama")
    assert prune(config, output, "magnitude", "--sparsities", "0.5", languages="en") == 0
    given = ["prune", "--config", str(config), "--output", str(output), "--languages", "en", "--sparsities", "0.6"]
    assert 'score was "magnitude", now it is "random"' in said(capsys, [*given, "--score", "random"])
    (RunFolder.of(output, "clm", "en", 57).path / "prune.yaml").unlink()
    assert "holds a run of `lnsub fit`" in said(capsys, [*given, "--score", "magnitude"])
