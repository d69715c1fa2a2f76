"""The earlier attempt's loop, at its smallest: a fresh pool of forked workers a batch, torch in the parent in between.

The parent's torch starts OpenMP's threads. A child that is forked after that inherits the book-keeping of the pool but not
its threads, and at its first parallel operation waits for them for ever: batch 1 is made in no time, batch 2 never.
"""

import multiprocessing

import torch

SIZE = 2**20  # enough that torch shares the work among threads


def make(sample: int) -> float:
    return float((torch.full((SIZE,), float(sample)) * 2).sum())


if __name__ == "__main__":
    for batch in (1, 2):
        with multiprocessing.get_context("fork").Pool(2) as pool:
            made = pool.map(make, range(4))
        torch.cat([torch.tensor(made), torch.zeros(SIZE)]).add_(1)[torch.randperm(SIZE)]
        print("batch", batch, flush=True)
