"""Prints which error nvidia-ml-py raises for each thing that must be refused."""

import ctypes
import json

import pynvml as nvml


def refusal(call):
    try:
        call()
    except nvml.NVMLError as error:
        return type(error).__name__
    return "none"


def raw(name, *arguments):
    """Calls the library itself, past the binding's own checks."""
    code = getattr(ctypes.CDLL("libnvidia-ml.so.1"), name)(*arguments)
    if code != 0:
        raise nvml.NVMLError(code)


nvml.nvmlInit()
nvml.nvmlShutdown()
before_init = refusal(nvml.nvmlDeviceGetCount)
nvml.nvmlInit()
gpu = nvml.nvmlDeviceGetHandleByIndex(0)
freed = nvml.nvmlEventSetCreate()
nvml.nvmlEventSetFree(freed)
place = ctypes.c_uint()
name = ctypes.create_string_buffer(8)
wild = ctypes.c_void_p(0x1234)
null = ctypes.c_void_p(0)
print(
    json.dumps(
        {
            "before_init": before_init,
            "power": refusal(lambda: nvml.nvmlDeviceGetPowerUsage(gpu)),
            "temperature": refusal(lambda: nvml.nvmlDeviceGetTemperature(gpu, 0)),
            "idle": refusal(lambda: nvml.nvmlDeviceGetProcessUtilization(gpu, 0)),
            "lost": refusal(lambda: nvml.nvmlDeviceGetHandleByIndex(1)),
            "no_such_gpu": refusal(lambda: nvml.nvmlDeviceGetHandleByIndex(9)),
            "wild_handle": refusal(
                lambda: raw("nvmlDeviceGetIndex", wild, ctypes.byref(place))
            ),
            "null_handle": refusal(
                lambda: raw("nvmlDeviceGetIndex", null, ctypes.byref(place))
            ),
            "null_place": refusal(lambda: raw("nvmlDeviceGetIndex", gpu, null)),
            "short_name": refusal(lambda: raw("nvmlDeviceGetName", gpu, name, 8)),
            "unknown_memory": nvml.nvmlDeviceGetComputeRunningProcesses(gpu)[0].usedGpuMemory,
            "freed_set": refusal(lambda: nvml.nvmlEventSetWait_v2(freed, 0)),
            "text": str(nvml.NVMLError(nvml.NVML_ERROR_GPU_IS_LOST)),
        }
    )
)
nvml.nvmlShutdown()
