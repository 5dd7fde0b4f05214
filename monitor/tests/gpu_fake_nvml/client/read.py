"""Prints what nvidia-ml-py reads, in the shape of the monitor's own reading."""

import json

import pynvml as nvml

nvml.nvmlInit()
gpu = nvml.nvmlDeviceGetHandleByIndex(0)
util = nvml.nvmlDeviceGetUtilizationRates(gpu)


def three(value):
    return f"{value:.3f}"


print(
    json.dumps(
        {
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "count": nvml.nvmlDeviceGetCount(),
            "name": nvml.nvmlDeviceGetName(gpu),
            "uuid": nvml.nvmlDeviceGetUUID(gpu),
            "bus_id": nvml.nvmlDeviceGetPciInfo(gpu).busId,
            "util": three(util.gpu),
            "mem_util": three(util.memory),
            "mem_used": nvml.nvmlDeviceGetMemoryInfo(gpu).used,
            "mem_used_v2": nvml.nvmlDeviceGetMemoryInfo(gpu, nvml.nvmlMemory_v2).used,
            "mem_total": nvml.nvmlDeviceGetMemoryInfo(gpu).total,
            "power_watts": three(nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
            "energy_joules": three(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000),
            "temperature": three(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
            "sm_clock": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
            "mem_clock": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
            "processes": [
                [found.pid, found.usedGpuMemory]
                for found in nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
            ],
            "process_util": [
                [found.pid, three(found.smUtil)]
                for found in nvml.nvmlDeviceGetProcessUtilization(gpu, 0)
            ],
            "mig": nvml.nvmlDeviceGetMigMode(gpu),
            "has_gpm": bool(nvml.nvmlGpmQueryDeviceSupport(gpu).isSupportedDevice),
        }
    )
)
nvml.nvmlShutdown()
