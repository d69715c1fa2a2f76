"""Do generated clips look real, and do they show all that real ones show? From neighbours in feature space."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from trajvit.metrics.neighbours import distances, neighbour_radius
from trajvit.settings import InputError

NEIGHBOURS = 5


class Diversity(NamedTuple):
    """`precision` and `density`: how much generated clips lie among real ones, for a perfect model as much as real ones among others
    (density may exceed 1; one outlier among the real ones is enough for precision to take blank clips). `recall` and `coverage`: the share of real clips with a generated one near. Low recall or coverage with high
    precision is mode collapse."""

    precision: float
    density: float
    recall: float
    coverage: float


def diversity(generated: Float[np.ndarray, "M D"], real: Float[np.ndarray, "N D"]) -> Diversity:
    """Precision and recall (Kynkäänniemi et al., arXiv:1904.06991), density and coverage (Naeem et al., arXiv:2002.09797).

    Each sample's neighbourhood reaches to its `NEIGHBOURS`-th nearest other sample of its own set. Raises `InputError` for sets of
    at most as many.
    """
    if min(len(real), len(generated)) <= NEIGHBOURS:
        raise InputError(
            f"{len(real)} real and {len(generated)} generated samples were given; {NEIGHBOURS} neighbours need {NEIGHBOURS + 1} of each"
        )
    real_radius, generated_radius = neighbour_radius(real, NEIGHBOURS), neighbour_radius(generated, NEIGHBOURS)
    among, near, covered = [], [], np.zeros(len(real), bool)
    for apart in distances(generated, real):  # (m, N)
        inside = apart <= real_radius
        among.append(inside.sum(axis=1))
        covered |= inside.any(axis=0)
    for apart in distances(real, generated):
        near.append((apart <= generated_radius).any(axis=1))
    neighbourhoods = np.concatenate(among)
    return Diversity(
        precision=float((neighbourhoods > 0).mean()),
        density=float(neighbourhoods.mean() / NEIGHBOURS),
        recall=float(np.concatenate(near).mean()),
        coverage=float(covered.mean()),
    )
