"""The inference server: connection, contract, inference, embedded server, reaper."""
