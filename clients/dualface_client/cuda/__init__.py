"""The CUDA stream that one video stream works on."""
