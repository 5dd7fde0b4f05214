"""Prints what nvidia-ml-py reads of MIG instances, GPM counters and faults."""

import json
import os
import pathlib

import pynvml as nvml

stage = pathlib.Path(os.environ["STAGE"])


def clock(seconds):
    (stage / "clock").write_text(str(seconds))


def refusal(call):
    try:
        call()
    except nvml.NVMLError as error:
        return type(error).__name__
    return "none"


def placed(handle):
    return [
        [found.pid, found.usedGpuMemory, found.gpuInstanceId, found.computeInstanceId]
        for found in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    ]


nvml.nvmlInit()
gpu = nvml.nvmlDeviceGetHandleByIndex(0)

events = nvml.nvmlEventSetCreate()
nvml.nvmlDeviceRegisterEvents(gpu, nvml.nvmlEventTypeXidCriticalError, events)

request = nvml.c_nvmlGpmMetricsGet_t()
request.version = nvml.NVML_GPM_METRICS_GET_VERSION
request.numMetrics = 3
request.sample1 = nvml.nvmlGpmSampleAlloc()
request.sample2 = nvml.nvmlGpmSampleAlloc()
request.metrics[0].metricId = nvml.NVML_GPM_METRIC_SM_UTIL
request.metrics[1].metricId = nvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL
request.metrics[2].metricId = nvml.NVML_GPM_METRIC_NVDEC_0_UTIL
nvml.nvmlGpmSampleGet(gpu, request.sample1)
clock(10)
nvml.nvmlGpmSampleGet(gpu, request.sample2)
measured = nvml.nvmlGpmMetricsGet(request).metrics
values = [measured[0].value, measured[1].value, measured[2].nvmlReturn]
nvml.nvmlGpmSampleFree(request.sample1)
nvml.nvmlGpmSampleFree(request.sample2)

xid = nvml.nvmlEventSetWait_v2(events, 0).eventData
no_more = refusal(lambda: nvml.nvmlEventSetWait_v2(events, 0))
nvml.nvmlEventSetFree(events)

parent = nvml.nvmlDeviceGetHandleByIndex(1)
instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 0)
memory = nvml.nvmlDeviceGetMemoryInfo(instance)
slots = nvml.nvmlDeviceGetMaxMigDeviceCount(parent)
filled = sum(
    refusal(lambda: nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, slot)) == "none"
    for slot in range(slots)
)
print(
    json.dumps(
        {
            "sm": f"{values[0]:.3f}",
            "tensor": f"{values[1]:.3f}",
            "unknown_metric": values[2],
            "xid": xid,
            "no_more": no_more,
            "mig": nvml.nvmlDeviceGetMigMode(parent),
            "mig_uuid": nvml.nvmlDeviceGetUUID(instance),
            "mig_memory": [memory.used, memory.total],
            "mig_processes": placed(instance),
            "parent_processes": placed(parent),
            "mig_slots": [slots, filled],
            "mig_util": refusal(lambda: nvml.nvmlDeviceGetUtilizationRates(parent)),
        }
    )
)
nvml.nvmlShutdown()
