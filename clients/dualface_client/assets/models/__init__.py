"""The two networks as ONNX graphs, rebuilt from the weights of pinned packages."""
