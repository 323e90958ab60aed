"""TensorRT engines: building them for production, and checking the ONNX files without a GPU."""
