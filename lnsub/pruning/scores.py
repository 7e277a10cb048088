"""How important each weight is; what is pruned for it is up to :mod:`lnsub.pruning.selection`.

A score is a pure function from what is known about the weights to one number for each. Selection ranks by the number's
absolute value, so a score need not take it, and :func:`magnitude` needs no copy of the weights. A new score is a
function here and a line in :data:`SCORES`, which names what it needs; :mod:`lnsub.training.score_inputs` gathers that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lnsub.common.lookup import lookup
from lnsub.pruning.masks import generator_for
from lnsub.pruning.sharding import sharded_like

Need = Literal["init", "gradients", "squared_gradients", "activations"]
"""What a score may need beside the weights: the attributes of :class:`ScoreInputs`."""

FROM_DATA: frozenset[Need] = frozenset({"gradients", "squared_gradients", "activations"})
"""What costs passes over examples."""


@dataclass(frozen=True)
class ScoreInputs:
    """What a score can be computed from. Mappings are by parameter name, for the parameters in ``weights`` at least.

    Attributes:
        weights: the trained weights; their names, shapes and devices are those of the score.
        init: theta_0, of the weights' shapes, on any device.
        gradients: the gradient of the mean loss; likewise.
        squared_gradients: the mean over examples of the squared gradient of each single example's log-likelihood;
            likewise.
        activations: the mean square of each input feature of the weight's linear layer over all tokens that it was
            given, padding left out: [in_features] for a weight [out_features, in_features], [experts, in_features] for
            stacked experts, over the tokens that were sent to each.
        inputs: for ``activations``: the axis of a weight's input features, by name; without it, the last one.
        seed: for random scores.
    """

    weights: Mapping[str, Tensor]
    init: Mapping[str, Tensor] | None = None
    gradients: Mapping[str, Tensor] | None = None
    squared_gradients: Mapping[str, Tensor] | None = None
    activations: Mapping[str, Tensor] | None = None
    inputs: Mapping[str, int] | None = None
    seed: int = 0

    def outputs_of(self, name: str) -> int:
        """The axis of a weight's output features: the other one of the last two."""
        last = self.weights[name].dim() - 1
        inputs = (self.inputs or {}).get(name, last)
        return 2 * last - 1 - inputs

    def beside_weights(self, what: Need) -> dict[str, Tensor]:
        """Returns one of the other attributes for exactly the parameters in ``weights``, on their devices.

        Raises:
            ValueError: it was not given, lacks a parameter, or has one of another shape; the message names it.
        """
        given: Mapping[str, Tensor] | None = getattr(self, what)
        if given is None:
            raise ValueError(f"This score needs {what}: give it in ScoreInputs.")
        found = {}
        for name, weight in self.weights.items():
            if name not in given:
                raise ValueError(f"The {what} of {name!r} is missing: this score needs it for every weight.")
            expected = list(weight.shape)
            if what == "activations":
                del expected[self.outputs_of(name)]
            if list(given[name].shape) != expected:
                raise ValueError(
                    f"The {what} of {name!r} has shape {tuple(given[name].shape)}, its weights {tuple(weight.shape)}."
                )
            found[name] = given[name].detach().to(weight.device)
        return found


@dataclass(frozen=True)
class Score:
    """An entry of :data:`SCORES`.

    Attributes:
        compute: the function; it takes a :class:`ScoreInputs`.
        needs: what it reads beside ``weights`` and ``seed``.
    """

    compute: Callable[[ScoreInputs], Mapping[str, Tensor]]
    needs: frozenset[Need] = frozenset()

    @property
    def reads_data(self) -> bool:
        """Whether it costs passes over examples."""
        return bool(self.needs & FROM_DATA)


def score(name: str, inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """Computes the score called ``name``.

    Args:
        name: a key of :data:`SCORES`.
        inputs: what it is computed from.

    Returns:
        One tensor per entry of ``inputs.weights``, of its shape and on its device. The larger a number's absolute
        value, the more important the weight. The tensors may be the weights themselves: do not write to them.

    Raises:
        UserError: there is no score of that name.
        ValueError: the score needs something that ``inputs`` lacks.
    """
    return lookup("score", name, SCORES).compute(inputs)


def magnitude(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """The weights themselves: |w|, as in Han et al. (2015, https://arxiv.org/abs/1506.02626)."""
    return inputs.weights


def magnitude_init(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """theta_0 itself: |theta_0|, whose masks are the inherited ones, from pruning without any fine-tuning."""
    return inputs.beside_weights("init")


def change(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """How far fine-tuning moved each weight, theta - theta_0: weights that hardly changed are pruned first.

    |theta - theta_0| is the score of LT-SFT (Ansell et al., 2022, https://arxiv.org/abs/2110.07560). In
    iterative pruning theta are the weights that the round trained.
    """
    init = inputs.beside_weights("init")
    return {name: weight.detach() - init[name] for name, weight in inputs.weights.items()}


def taylor(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """Weight times gradient: to first order, how much the loss changes without the weight.

    Molchanov et al. (2019, https://arxiv.org/abs/1906.10771) take its square, which ranks the same; Michel et al.
    (2019, https://arxiv.org/abs/1905.10650) use it for attention heads.
    """
    gradients = inputs.beside_weights("gradients")
    return {name: weight.detach() * gradients[name] for name, weight in inputs.weights.items()}


def fisher(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """The diagonal of the Fisher information, F = 1/N sum_i (d log p(y_i | x_i) / d theta)^2 over N examples.

    The score of FISH masks (Sung et al., 2021, https://arxiv.org/abs/2111.09839): with the data's labels
    y_i it is the empirical Fisher information, with labels drawn from p(y | x_i) an unbiased estimate of the true one.
    """
    return inputs.beside_weights("squared_gradients")


def wanda(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """Weight times the norm of its input feature, |w_ij| ||x_j||_2 over a sample's tokens.

    Sun et al. (2024, https://arxiv.org/abs/2306.11695, section 3), who rank within each row (scope ``row``). The norm
    here is divided by the square root of the number of tokens, which changes no rank within a row.
    """
    squares = inputs.beside_weights("activations")
    scores = {}
    for name, weight in inputs.weights.items():
        norm = squares[name].sqrt().unsqueeze(inputs.outputs_of(name)).expand(weight.shape)
        scores[name] = weight.detach() * sharded_like(norm, weight)
    return scores


def random(inputs: ScoreInputs) -> Mapping[str, Tensor]:
    """Uniform in (0, 1], float32: the control that any other score must beat.

    A weight's number depends on the seed, the parameter's name and its position alone, so it is the same on every rank
    and in every round, and the kept weights of a sparser random mask are among those of a denser one.
    """
    scores = {}
    for name, weight in inputs.weights.items():
        # Drawn on the CPU, so that the numbers do not depend on the device. rand() is in [0, 1).
        uniform = torch.rand(weight.shape, generator=generator_for("random", inputs.seed, name), dtype=torch.float32)
        scores[name] = sharded_like(uniform.neg_().add_(1.0), weight).to(weight.device)
    return scores


SCORES: Mapping[str, Score] = {
    "magnitude": Score(magnitude),
    "random": Score(random),
    "magnitude_init": Score(magnitude_init, frozenset({"init"})),
    "change": Score(change, frozenset({"init"})),
    "taylor": Score(taylor, frozenset({"gradients"})),
    "fisher": Score(fisher, frozenset({"squared_gradients"})),
    "wanda": Score(wanda, frozenset({"activations"})),
}
"""The scores by the name that a config gives them."""
