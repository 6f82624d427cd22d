"""How sure of a finished reply one may be: features of its tokens, and what was fitted to a model."""

from .features import SIGNS, Measured, carrying, features, measured
from .fits import QUANTILES, Fit, Fits, Rank, as_toml, load_fits, policy_name, read_fits, scaled
from .judge import VOTE_SIGNS, Judge, likelihood, may_ask_for, vote_features

__all__ = [
    "QUANTILES",
    "SIGNS",
    "VOTE_SIGNS",
    "Fit",
    "Fits",
    "Judge",
    "Measured",
    "Rank",
    "as_toml",
    "carrying",
    "features",
    "likelihood",
    "load_fits",
    "may_ask_for",
    "measured",
    "policy_name",
    "read_fits",
    "scaled",
    "vote_features",
]
