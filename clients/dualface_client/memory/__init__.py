"""Shared memory that Triton reads: region names, regions, slots and their leases."""
