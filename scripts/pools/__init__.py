"""Ensembles that keep tensors in Triton's CUDA pool, to try pool sizes with."""
