"""More machines than one: a driver gives out videos, nodes with a server and workers make them."""
