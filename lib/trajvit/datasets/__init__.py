"""Videos on disk: the store, its generator, verification and loading."""
