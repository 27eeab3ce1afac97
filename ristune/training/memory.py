"""Which errors mean that the device has no memory left."""

import torch

# torch has a type for the GPU only; on the CPU its allocator says so in words.
CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)
