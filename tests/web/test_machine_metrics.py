"""What Prometheus is told of single machines."""

from dataclasses import replace

from fleet.model import Gpu, Vitals
from fleet.web.metrics import metrics_text
from tests.store.nouns import T0, an_instance, at

VITALS = Vitals(
    cpu_percent=50.0,
    memory_used_gib=2.0,
    memory_free_gib=6.0,
    disk_free_percent=25.0,
    disk_read_mib_per_s=1.0,
    disk_write_mib_per_s=2.0,
    network_rx_mib_per_s=3.0,
    network_tx_mib_per_s=0.5,
)
GPUS = (
    Gpu(
        index=0,
        uuid="GPU-0",
        model="A10",
        memory_gib=24.0,
        util=75.0,
        memory_used_gib=12.0,
        temperature_c=61.0,
        power_w=140.0,
    ),
    Gpu(index=1, uuid="GPU-1", model="A10", memory_gib=24.0, sick="Xid 79"),
)


def lines(*instances: object) -> set[str]:
    text = metrics_text(None, instances, 0.0, T0).decode()  # type: ignore[arg-type]
    return {line for line in text.splitlines() if line.startswith("fleet_instance_")}


def test_each_machine_that_speaks_has_a_line_for_each_reading_and_each_gpu_by_its_index() -> None:
    speaks = replace(an_instance("i1"), enrolled_at=T0, heartbeat_at=T0, vitals=VITALS, gpus=GPUS)
    mib, gib = 1024**2, 1024**3
    wanted = {
        'fleet_instance_cpu_usage_ratio{instance="i1"}': 0.5,
        'fleet_instance_memory_used_bytes{instance="i1"}': 2 * gib,
        'fleet_instance_memory_available_bytes{instance="i1"}': 6 * gib,
        'fleet_instance_disk_free_ratio{instance="i1"}': 0.25,
        'fleet_instance_disk_read_bytes_per_second{instance="i1"}': mib,
        'fleet_instance_disk_write_bytes_per_second{instance="i1"}': 2 * mib,
        'fleet_instance_network_receive_bytes_per_second{instance="i1"}': 3 * mib,
        'fleet_instance_network_transmit_bytes_per_second{instance="i1"}': mib / 2,
        'fleet_instance_gpu_utilization_ratio{gpu="0",instance="i1"}': 0.75,
        'fleet_instance_gpu_memory_used_bytes{gpu="0",instance="i1"}': 12 * gib,
        'fleet_instance_gpu_memory_total_bytes{gpu="0",instance="i1"}': 24 * gib,
        'fleet_instance_gpu_memory_total_bytes{gpu="1",instance="i1"}': 24 * gib,
        'fleet_instance_gpu_temperature_celsius{gpu="0",instance="i1"}': 61,
        'fleet_instance_gpu_power_watts{gpu="0",instance="i1"}': 140,
        'fleet_instance_gpu_sick{gpu="0",instance="i1"}': 0,
        'fleet_instance_gpu_sick{gpu="1",instance="i1"}': 1,
    }
    assert {(name, float(value)) for name, value in (line.split(" ") for line in lines(speaks))} == set(wanted.items())


def test_a_machine_that_boots_or_is_gone_has_none() -> None:
    boots = an_instance("i2")
    gone = replace(an_instance("i3"), enrolled_at=T0, heartbeat_at=T0, vitals=VITALS, gpus=GPUS, gone_at=at(9))
    assert lines(boots, gone) == set()


def test_sick_gpus_are_counted_for_each_resource() -> None:
    speaks = replace(an_instance("i1"), enrolled_at=T0, heartbeat_at=T0, gpus=GPUS)
    text = metrics_text(None, (speaks, replace(speaks, id="i2", gpus=GPUS[:1])), 0.0, T0).decode()
    assert 'fleet_gpus{resource="gpu"} 3.0' in text
    assert 'fleet_gpus_sick{resource="gpu"} 1.0' in text
