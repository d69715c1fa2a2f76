"""The same parent, with this project's generator in the place of the forked pool."""

import sys

import torch
import trajvit
from fork_pool import SIZE

SHARDS, SHARD = 200, 6

if __name__ == "__main__":
    for batch in (1, 2):
        torch.cat([torch.zeros(SIZE), torch.ones(SIZE)]).add_(1)[torch.randperm(SIZE)]
        out = f"{sys.argv[1]}/{batch}"
        dataset = trajvit.generate(out=out, samples=SHARDS * SHARD, shard_size=SHARD, seed=batch, workers=2)
        print("batch", batch, dataset.config.shards, "shards", flush=True)
