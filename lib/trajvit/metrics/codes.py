"""How much of a codebook is in use."""

import numpy as np
from jaxtyping import Int


def code_usage(tokens: Int[np.ndarray, "*shape"], codes: int) -> float:
    """The share of the codebook that occurs at least once."""
    return np.unique(tokens).size / codes


def code_perplexity(tokens: Int[np.ndarray, "*shape"], codes: int) -> float:
    """exp of the entropy of the codes' frequencies: how many codes are in use, rare ones counting less."""
    share = np.bincount(tokens.ravel(), minlength=codes) / tokens.size
    return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))
