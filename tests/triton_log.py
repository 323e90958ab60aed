"""Lines of Triton's log, with which the memory pools say that they did not do, and others."""

from __future__ import annotations

# As Triton 2.51 and its Python backend print them; sizes and places are examples.
LINES = {
    "cuda_pool": (
        "W1121 06:39:42.582024 10231 memory.cc:212] Failed to allocate CUDA memory with byte size "
        "6291456 on GPU 0: CNMEM_STATUS_OUT_OF_MEMORY, falling back to pinned system memory"
    ),
    "pinned_pool": (
        'W1121 06:39:42.582024 10231 pinned_memory_manager.cc:170] "failed to allocate pinned '
        'system memory, falling back to non-pinned system memory"'
    ),
    "output_by_ipc": (
        "W1121 06:39:42 10231 infer_response.cc:350] Failed to allocate memory from CUDA memory "
        "pool for output tensor: CNMEM_STATUS_OUT_OF_MEMORY, will use CUDA IPC for GPU output "
        "transfer."
    ),
    "lost_output": (
        "E1121 06:39:42 10231 pb_stub.cc:402] An error occurred while trying to load GPU buffers "
        "in the Python backend stub: failed to copy data: invalid argument"
    ),
    "pool_not_shared": (
        "W1121 06:39:42 10231 python_be.cc:900] Failed to share CUDA memory pool with stub "
        "process: failed to allocate. Will use CUDA IPC."
    ),
    "no_pinned_pool": (
        'W1121 06:39:42.582024 10231 pinned_memory_manager.cc:273] "Unable to allocate pinned '
        "system memory, pinned memory pool will not be available: CUDA driver version is "
        'insufficient for CUDA runtime version"'
    ),
}
HARMLESS = (
    'I1121 06:39:42.5 10231 cuda_memory_manager.cc:117] "CUDA memory pool disabled"',
    'I1121 06:39:42.5 1 cuda_memory_manager.cc:107] "CUDA memory pool is created on device 0 with '
    'size 67108864"',
    "I1121 06:39:42.5 1 pinned_memory_manager.cc:275] \"Pinned memory pool is created at '0x7f' "
    'with size 268435456"',
    "I1121 06:39:43.1 10231 model_lifecycle.cc:839] \"successfully loaded 'face_reid'\"",
    "",
)
