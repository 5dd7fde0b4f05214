"""Prints what nvitop reads: a monitor for people, with a binding of its own on top."""

import json

from nvitop import Device

device = Device.all()[0]
print(
    json.dumps(
        {
            "name": device.name(),
            "uuid": device.uuid(),
            "mem_used": device.memory_used(),
            "mem_total": device.memory_total(),
            "util": device.gpu_utilization(),
            "power_mw": device.power_usage(),
            "temperature": device.temperature(),
            "sm_clock": device.sm_clock(),
            "uncorrected": device.total_volatile_uncorrected_ecc_errors(),
            "pcie_kib": list(device.pcie_throughput()),
            "processes": [
                [pid, process.gpu_memory(), process.type]
                for pid, process in device.processes().items()
            ],
        }
    )
)
