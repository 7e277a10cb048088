"""What kinds of tickets reach on the same targets: a mixed model with crossed source, target and seed.

metric = effect of the kind of ticket + source + target + seed + source with target + target with seed + rest

The kinds are fixed effects, the others random ones, whose variances statsmodels finds by restricted maximum likelihood.
A t interval over the cells of a transfer takes them for independent, although all cells of a target share its
difficulty, and all fits under one mask on one target what that mask does there. The standard error of a difference
comes from the fitted covariance, and its degrees of freedom are Satterthwaite's, as in the R package lmerTest
(Kuznetsova, Brockhoff & Christensen, 2017, https://doi.org/10.18637/jss.v082.i13): with ten languages and three seeds
the normal distribution would do, with three languages it would not.

Own and foreign tickets make one model, and every other kind is added to these alone: the variances are the same for all
kinds of a model, and masks drawn at random scatter several times as widely as tickets do.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

OWN = "own"
"""The kind that the others are held against: the target's own ticket."""
FOREIGN = "others"
"""The kind of other languages' tickets, as in :data:`lnsub.report.figures.baselines.VARIANTS`."""
FACTORS = ("source", "target", "seed", "source and target", "target and seed")
"""The random effects. A source is the language that a ticket was found on; a baseline's mask has none. What source and
target have together is, for a baseline, what its mask does on the target."""
REST = "rest"
FEWEST = 3
"""Languages that must have an own ticket: of two, one difference of four cells is all that tells foreign from own."""
TOO_SMALL = 1e-6
"""A share of the variance that counts as none."""


@dataclass(frozen=True)
class Fit:
    """One fit: a single fine-tuning and its evaluation.

    Attributes:
        kind: of the ticket that was trained under: :data:`OWN`, :data:`FOREIGN`, or another such as ``inherited``.
        source: the language that it was found on; empty for a kind that owes nothing to one.
        mask: what tells masks of one kind apart, such as the language that a shuffled ticket comes from.
        target: the language that it was trained and measured on.
        seed: of the fine-tuning.
        value: the metric.
    """

    kind: str
    source: str
    mask: str
    target: str
    seed: int
    value: float


@dataclass(frozen=True)
class Model:
    """What was fitted.

    Attributes:
        effects: a row a kind but :data:`OWN`: ``kind``, ``effect`` (its mean less that of own tickets, in the metric's
            units), ``fits``, ``error`` (standard), ``freedom``, ``low`` and ``high`` (95 % t interval) and ``p``
            (two-sided, not adjusted for the number of kinds). The last three are None with less than one degree of
            freedom.
        shares: of the variance, by name of :data:`FACTORS` (those that can be told apart in these fits) and
            :data:`REST`; they add up to 1.
        deviation: the square root of the whole variance, in the metric's units.
        reason: why there is no model, as a clause; empty where there is.
    """

    effects: Sequence[dict[str, Any]] = ()
    shares: dict[str, float] | None = None
    deviation: float = math.nan
    reason: str = ""


def mixed_model(fits: Sequence[Fit]) -> Model:
    """Fits the models to the transfers of one study at one sparsity.

    Args:
        fits: of :data:`OWN` and at least one other kind; values are finite. A few hundred take about a second.

    Returns:
        The effects of all kinds, and the variances of own and foreign tickets. A kind that cannot be fitted beside
        these has no row. Where there are no foreign tickets, or they cannot be fitted, all kinds make one model. A
        factor that has one member, or that no fits can tell from another or from the rest, such as a seed where there
        is one, is left out.
    """
    others = sorted({fit.kind for fit in fits} - {OWN, FOREIGN})
    tickets = [fit for fit in fits if fit.kind in {OWN, FOREIGN}]
    first = one_model(tickets)
    if first.reason or not others:
        return one_model(fits)
    added = {kind: one_model([*tickets, *(fit for fit in fits if fit.kind == kind)]) for kind in others}
    effects = [row for kind, model in added.items() for row in model.effects if row["kind"] == kind]
    return Model(sorted([*first.effects, *effects], key=lambda row: str(row["kind"])), first.shares, first.deviation)


def one_model(fits: Sequence[Fit]) -> Model:
    """Fits one model to all of these, whatever their kinds: see :func:`mixed_model`."""
    kinds = [OWN, *sorted({fit.kind for fit in fits} - {OWN})]
    own = {fit.target for fit in fits if fit.kind == OWN}
    if len(own) < FEWEST or len(kinds) < 2:
        return Model(reason=f"it takes own tickets of {FEWEST} languages, and tickets or masks of another kind")
    values = np.array([fit.value for fit in fits])
    spread = float(values.std())
    if not spread > 1e-12 * (1 + float(np.abs(values).max())):
        return Model(reason="all values are equal")
    fixed = np.array([[1.0, *(fit.kind == kind for kind in kinds[1:])] for fit in fits])
    members = _members(fits)
    if not _enough(fits, fixed, members):
        return Model(reason="too few fits share a source or a target to tell what these two do by themselves")
    variances, reason = _variances(values / spread, fixed, members)
    if reason:
        return Model(reason=reason)
    covariances = [z @ z.T for z in members.values()] + [np.eye(len(fits))]
    whole = sum(v * c for v, c in zip(variances, covariances, strict=True))
    inverse = np.linalg.inv(whole)
    information = np.linalg.inv(fixed.T @ inverse @ fixed)
    estimates = information @ fixed.T @ inverse @ values
    projection = inverse - inverse @ fixed @ information @ fixed.T @ inverse
    effects = []
    for at, kind in enumerate(kinds[1:], start=1):
        effect, error = float(estimates[at]), spread * math.sqrt(information[at, at])
        freedom = _freedom(at, information, inverse @ fixed, projection, covariances, variances)
        row = {"kind": kind, "fits": int(fixed[:, at].sum()), "effect": effect, "error": error}
        effects.append(row | _interval(effect, error, freedom))
    total = float(variances.sum())
    shares = {name: float(v) / total for name, v in zip([*members, REST], variances, strict=True)}
    return Model(effects, shares, spread * math.sqrt(total))


def _enough(fits: Sequence[Fit], fixed: np.ndarray, members: dict[str, np.ndarray]) -> bool:
    """Whether masks on targets vary by more than kinds, sources and targets can explain: the error of a difference."""
    explained = np.hstack([fixed, *(z for name, z in members.items() if name in {"source", "target"})])
    return len({_pair(fit) for fit in fits}) > int(np.linalg.matrix_rank(explained))


def _pair(fit: Fit) -> tuple[str, str, str, str]:
    """The mask of a fit, and its target."""
    return (fit.source, "", "", fit.target) if fit.source else ("", fit.kind, fit.mask, fit.target)


def _members(fits: Sequence[Fit]) -> dict[str, np.ndarray]:
    """Which member of each factor a fit has, (fits, members), of the factors that these fits can tell apart."""
    keys: dict[str, list[Any]] = {
        "source": [fit.source for fit in fits],
        "target": [fit.target for fit in fits],
        "seed": [fit.seed for fit in fits],
        "source and target": [_pair(fit) for fit in fits],
        "target and seed": [(fit.target, fit.seed) for fit in fits],
    }
    found: dict[str, np.ndarray] = {}
    partitions = set()
    for name in FACTORS:
        levels = sorted({key for key in keys[name] if key != ""}, key=str)
        at = tuple(levels.index(key) if key != "" else -1 for key in keys[name])
        if 1 < len(levels) < len(fits) and at not in partitions:
            found[name] = np.array([[float(i == level) for level in range(len(levels))] for i in at])
            partitions.add(at)
    return found


def _variances(values: np.ndarray, fixed: np.ndarray, members: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """The variances of the factors and of the rest, by restricted maximum likelihood; or why there are none."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    spec = VCSpec(
        list(members),
        [[[str(i) for i in range(z.shape[1])]] for z in members.values()],
        [[z] for z in members.values()],
    )
    model = MixedLM(values, fixed, groups=np.zeros(len(values)), exog_vc=spec)
    # Variances of 0 lie on the boundary: statsmodels warns of each, and they are said in the table.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            # Of 100 simulated transfers with a variance of 0, methods that follow the gradient gave up in 20 to 50.
            result = model.fit(reml=True, method="powell")
        except (np.linalg.LinAlgError, ValueError) as error:
            return np.array([]), f"the fit failed ({str(error).rstrip('.')})"
    found = np.append(result.vcomp, result.scale)
    if not result.converged or not np.isfinite(found).all():
        return np.array([]), "the fit did not converge"
    return found, ""


def _freedom(
    at: int,
    information: np.ndarray,
    weighted: np.ndarray,
    projection: np.ndarray,
    covariances: Sequence[np.ndarray],
    variances: np.ndarray,
) -> float:
    """Satterthwaite's degrees of freedom of a fixed effect, by the expected information on the variances."""
    there = [c for c, v in zip(covariances, variances, strict=True) if v > TOO_SMALL * variances.sum()]
    of = weighted @ information[:, at]
    slopes = np.array([of @ c @ of for c in there])
    products = [projection @ c for c in there]
    known = np.array([[0.5 * np.sum(a * b.T) for b in products] for a in products])
    return float(2 * information[at, at] ** 2 / (slopes @ np.linalg.pinv(known) @ slopes))


def _interval(effect: float, error: float, freedom: float) -> dict[str, float | None]:
    from scipy.special import stdtr, stdtrit

    if not freedom >= 1:  # the variances are as good as unknown
        return {"freedom": freedom, "low": None, "high": None, "p": None}
    half = float(stdtrit(freedom, 0.975)) * error
    p = 2 * float(stdtr(freedom, -abs(effect) / error))
    return {"freedom": freedom, "low": effect - half, "high": effect + half, "p": p}
