"""Shared memory regions, slots and leases."""
