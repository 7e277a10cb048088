"""Language activation probability entropy (LAPE): the neurons that are active in few of several languages.

Tang et al. (2024), "Language-Specific Neurons", https://arxiv.org/abs/2402.16438, section 2.2 and their code.
"""

import torch
from torch import Tensor


def language_neurons(probabilities: Tensor, rate: float, quantile: float) -> Tensor:
    """Chooses the neurons that are specific to languages.

    A neuron's probabilities, normalised over the languages, have an entropy, which is low where few languages make it
    active. Neurons that are active in none are left out: those without a probability above the quantile of all
    probabilities. Of the others, those of the lowest entropy are chosen, and each belongs to the languages in which its
    probability is above that quantile.

    Args:
        probabilities: the share of tokens that activate a neuron, by language and neuron: float [L, N].
        rate: the share of the N neurons that are chosen, in (0, 1); fewer, where fewer are active. Of equal entropies
            the first neurons come first.
        quantile: in (0, 1): the probability at position ``round(quantile * L * N)`` of all, sorted.

    Returns:
        bool [L, N]: which neurons belong to which language.
    """
    probabilities = probabilities.double()
    shares = (probabilities / probabilities.sum(0)).nan_to_num(0.0)
    entropy = -torch.xlogy(shares, shares).sum(0)
    every = probabilities.flatten()
    bar = every.kthvalue(max(1, round(quantile * len(every)))).values
    active = probabilities > bar
    entropy[~active.any(0)] = torch.inf
    lowest = entropy.argsort(stable=True)[: round(rate * len(entropy))]
    chosen = torch.zeros_like(entropy, dtype=torch.bool)
    chosen[lowest] = True
    return active & chosen
