"""The machine as Linux tells of it, on trees of `/proc` and `/sys` that the tests lay out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from entropix_edge.bench.process import throttling
from entropix_edge.cli.info import _device
from entropix_edge.llama import Device, cgroups, devices, machine
from entropix_edge.llama.machine import Linux

GIB = 1 << 30
GB = 10**9
V2 = "30 23 0:26 {group} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "3{number} 31 0:3{number} {group} /sys/fs/cgroup/{name} rw,nosuid - cgroup cgroup rw,{name}"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
DOCKER = "/docker/0123456789ab"
NO_LIMIT = str(0x7FFFFFFFFFFFF000)


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v1_mounts(group: str = "/") -> str:
    names = enumerate(("cpu,cpuacct", "memory"))
    return "\n".join(V1.format(number=number, name=name, group=group) for number, name in names)


def v2_group(folder: str, cpu: str = "max 100000", memory: str = "max") -> dict[str, str]:
    return {
        f"{folder}/cpu.max": f"{cpu}\n",
        f"{folder}/memory.max": f"{memory}\n",
        f"{folder}/memory.current": f"{GIB}\n",
        f"{folder}/memory.stat": f"file {GIB // 2}\nactive_file {GIB // 8}\ninactive_file {GIB // 8}\n",
    }


def v1_group(folder: str, quota: str = "-1", memory: str = NO_LIMIT) -> dict[str, str]:
    cpu, mem = (f"sys/fs/cgroup/{name}{folder}" for name in ("cpu,cpuacct", "memory"))
    return {
        f"{cpu}/cpu.cfs_quota_us": f"{quota}\n",
        f"{cpu}/cpu.cfs_period_us": "100000\n",
        f"{mem}/memory.limit_in_bytes": f"{memory}\n",
        f"{mem}/memory.usage_in_bytes": f"{GIB}\n",
        f"{mem}/memory.stat": f"active_file 1\ninactive_file 1\ntotal_active_file {GIB // 8}\n"
        f"total_inactive_file {GIB // 8}\n",
    }


SLICE = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-edge.scope"
ONE = "sys/fs/cgroup"

TREES: dict[str, tuple[dict[str, str], int | None, int | None]] = {
    "version 2, a container's own namespace": (
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2.format(group="/")}
        | v2_group(ONE, "250000 100000", str(4 * GIB)),
        2,
        4 * GIB,
    ),
    "version 2, less than one processor": (
        {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": V2.format(group="/")} | v2_group(ONE, "50000 100000"),
        1,
        None,
    ),
    "version 2, a systemd slice above limits": (
        {"proc/self/cgroup": f"0::{SLICE}\n", "proc/self/mountinfo": V2.format(group="/")}
        | v2_group(f"{ONE}{SLICE}")
        | v2_group(f"{ONE}/user.slice/user-1000.slice", "300000 100000", str(3 * GIB)),
        3,
        3 * GIB,
    ),
    "version 2, the tightest of nested limits": (
        {"proc/self/cgroup": "0::/a/b/c\n", "proc/self/mountinfo": V2.format(group="/")}
        | v2_group(f"{ONE}/a/b/c", "800000 100000", str(8 * GIB))
        | v2_group(f"{ONE}/a/b", "200000 100000", str(9 * GIB))
        | v2_group(f"{ONE}/a", "400000 100000", str(2 * GIB)),
        2,
        2 * GIB,
    ),
    "version 2, a container in the host's namespace": (
        {
            "proc/self/cgroup": "0::/system.slice/docker-0123.scope\n",
            "proc/self/mountinfo": V2.format(group="/system.slice/docker-0123.scope"),
        }
        | v2_group(ONE, "200000 100000", str(2 * GIB)),
        2,
        2 * GIB,
    ),
    "version 2, a group outside of the namespace": (
        {"proc/self/cgroup": "0::/../other\n", "proc/self/mountinfo": V2.format(group="/")}
        | v2_group(ONE, "200000 100000", str(2 * GIB))
        | v2_group("sys/fs/other", "100000 100000", str(GIB)),
        2,
        2 * GIB,
    ),
    "version 2, nothing limits": (
        {"proc/self/cgroup": f"0::{SLICE}\n", "proc/self/mountinfo": V2.format(group="/")} | v2_group(f"{ONE}{SLICE}"),
        None,
        None,
    ),
    "version 2, another group is mounted elsewhere": (
        {
            "proc/self/cgroup": "0::/mine\n",
            "proc/self/mountinfo": "29 1 0:26 /theirs /srv/theirs rw - cgroup2 cgroup2 rw\n" + V2.format(group="/"),
        }
        | v2_group("srv/theirs", "100000 100000", str(GIB))
        | v2_group(f"{ONE}/mine", "200000 100000", str(2 * GIB)),
        2,
        2 * GIB,
    ),
    "version 1, a container that sees its own group as the root": (
        {
            "proc/self/cgroup": f"5:memory:{DOCKER}\n3:cpu,cpuacct:{DOCKER}\n1:name=systemd:{DOCKER}\n",
            "proc/self/mountinfo": v1_mounts(DOCKER),
        }
        | v1_group("", "200000", str(2 * GIB)),
        2,
        2 * GIB,
    ),
    "version 1, nested groups": (
        {"proc/self/cgroup": "5:memory:/a/b\n3:cpu,cpuacct:/a/b\n", "proc/self/mountinfo": v1_mounts()}
        | v1_group("/a/b", "-1", NO_LIMIT)
        | v1_group("/a", "150000", str(3 * GIB))
        | v1_group(""),
        1,
        3 * GIB,
    ),
    "version 1, the whole tree is shown and the group is not": (
        {"proc/self/cgroup": f"5:memory:{DOCKER}\n3:cpu,cpuacct:{DOCKER}\n", "proc/self/mountinfo": v1_mounts()}
        | v1_group("", "400000", str(5 * GIB)),
        4,
        5 * GIB,
    ),
    "hybrid: version 1 limits, version 2 only counts": (
        {
            "proc/self/cgroup": "5:memory:/job\n3:cpu,cpuacct:/\n0::/job\n",
            "proc/self/mountinfo": f"{v1_mounts()}\n{HYBRID}",
        }
        | v1_group("/job", "-1", str(6 * GIB))
        | v1_group("", "500000")
        | {"sys/fs/cgroup/unified/job/cgroup.procs": "1\n"},
        5,
        6 * GIB,
    ),
    "no list of mounts": (
        {"proc/self/cgroup": "0::/a\n"} | v2_group(f"{ONE}/a", "200000 100000", str(2 * GIB)),
        2,
        2 * GIB,
    ),
    "a name with a space": (
        {
            "proc/self/cgroup": "0::/my jobs/one\n",
            "proc/self/mountinfo": V2.format(group="/my\\040jobs"),
        }
        | v2_group(f"{ONE}/one", "200000 100000", str(2 * GIB)),
        2,
        2 * GIB,
    ),
    "neither": ({}, None, None),
}


@pytest.mark.parametrize("name", TREES)
def test_limits_of_control_groups(name: str, tmp_path: Path) -> None:
    files, processors, memory = TREES[name]
    lay_out(tmp_path, files)
    assert cgroups.processors(tmp_path) == processors
    found = cgroups.memory(tmp_path)
    assert (found and found.limit) == memory
    if found and memory is not None:
        assert found.room == memory - GIB + GIB // 4  # a mapped file's pages give way


def test_a_group_that_holds_more_than_its_limit_has_no_room(tmp_path: Path) -> None:
    lay_out(tmp_path, v2_group(ONE, memory=str(GIB // 2)))
    assert cgroups.memory(tmp_path) == cgroups.MemoryLimit(GIB // 2, 0)


def test_memory_is_the_least_of_machine_and_groups(tmp_path: Path) -> None:
    meminfo = f"MemTotal: {8 << 20} kB\nMemFree: 5 kB\nMemAvailable: {3 << 20} kB\n"
    lay_out(tmp_path, {"proc/meminfo": meminfo})
    assert (Linux(tmp_path).total_memory(), Linux(tmp_path).available_memory()) == (8 * GIB, 3 * GIB)
    lay_out(tmp_path, v2_group(ONE, memory=str(2 * GIB)))
    assert (Linux(tmp_path).total_memory(), Linux(tmp_path).available_memory()) == (2 * GIB, 5 * GIB // 4)
    assert Linux(tmp_path / "nowhere").available_memory() is None


# --- threads ----------------------------------------------------------------------------------------


def smt(cores: int) -> dict[str, str]:
    """Two hardware threads a core, numbered as on servers: 0 and `cores` share the first."""
    return {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % cores},{cpu % cores + cores}\n"
        for cpu in range(2 * cores)
    }


def capacities(*numbers: int) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity": f"{number}\n" for cpu, number in enumerate(numbers)}


RK3588, TENSOR = capacities(*[530] * 4, *[1024] * 4), capacities(*[250] * 4, *[761] * 2, *[1024] * 2)


@pytest.mark.parametrize(
    ("files", "allowed", "threads"),
    [
        (smt(4), range(8), 4),
        (smt(4), (0, 4), 1),
        (smt(4), (0, 1, 4), 2),
        (smt(4) | v2_group(ONE, "200000 100000"), range(8), 2),
        (smt(4) | v2_group(ONE, "900000 100000"), range(8), 4),
        (RK3588, range(8), 4),
        (RK3588, (0, 1, 4), 1),
        (RK3588, range(4), 4),
        (TENSOR, range(8), 4),
        (capacities(*[1024] * 4), range(4), 4),
        (capacities(530, 530), range(4), 4),
        (smt(4) | {"sys/devices/cpu_atom/cpus": "2-3,6-7\n"}, range(8), 2),
        ({}, range(3), 3),
    ],
    ids=[
        "two threads a core",
        "a mask of one core's two threads",
        "a mask of two cores",
        "a quota below the cores",
        "a quota above the cores",
        "four big and four little",
        "a mask with one big core",
        "a mask of little cores",
        "big and middle cores count",
        "all alike",
        "not all are told",
        "Intel's efficiency cores",
        "nothing is known",
    ],
)
def test_threads(files: dict[str, str], allowed: range, threads: int, tmp_path: Path) -> None:
    assert Linux(lay_out(tmp_path, files), frozenset(allowed)).threads() == threads


def test_threads_follow_this_process_mask() -> None:
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this system has no affinity masks, or one processor")
    before = os.sched_getaffinity(0)
    machine.default_threads.cache_clear()
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.default_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
        machine.default_threads.cache_clear()


# --- names ------------------------------------------------------------------------------------------


def cpuinfo(*parts: int, implementer: str = "0x41") -> str:
    core = "processor\t: {}\nBogoMIPS\t: 108.00\nCPU implementer\t: {}\nCPU architecture: 8\nCPU part\t: {:#x}\n\n"
    return "".join(core.format(number, implementer, part) for number, part in enumerate(parts))


PI = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ({"proc/cpuinfo": "processor : 0\nmodel name : AMD EPYC 7B13\nprocessor : 1\n"}, "AMD EPYC 7B13"),
        ({"proc/cpuinfo": cpuinfo(*[0xD0B] * 4)} | PI, "Raspberry Pi 5 Model B Rev 1.0 (4 x Cortex-A76)"),
        ({"proc/cpuinfo": cpuinfo(*[0xFFF] * 4)} | PI, "Raspberry Pi 5 Model B Rev 1.0"),
        ({"proc/cpuinfo": cpuinfo(*[0xD05] * 4, *[0xD0B] * 4)}, "4 x Cortex-A76, 4 x Cortex-A55"),
        ({"proc/cpuinfo": cpuinfo(*[0xD0B] * 4, implementer="0x61")}, "{machine} CPU, 4 cores"),
        ({"proc/cpuinfo": cpuinfo(0xFFF)}, "{machine} CPU, 1 core"),
    ],
)
def test_a_processor_has_a_name(files: dict[str, str], name: str, tmp_path: Path) -> None:
    expected = name.format(machine=os.uname().machine)
    assert Linux(lay_out(tmp_path, files)).processor_name() == expected


def test_a_device_says_what_is_free_and_what_there_is() -> None:
    cpu = next(device for device in devices() if device.kind == "CPU")
    assert cpu.total_memory == machine.total_memory()
    assert 0 < cpu.free_memory < cpu.total_memory


@pytest.mark.parametrize(
    ("device", "line"),
    [
        (
            Device(
                name="CPU",
                kind="CPU",
                description="4 x A76",
                takes_layers=False,
                free_memory=3 * GB,
                total_memory=8 * GB,
            ),
            "CPU: 4 x A76, 8.0 GB of memory, 3.0 GB available",
        ),
        (
            Device(
                name="MTL0",
                kind="GPU",
                description="Apple M2",
                takes_layers=True,
                free_memory=8 * GB,
                total_memory=8 * GB,
            ),
            "MTL0 (GPU): Apple M2, 8.0 GB of memory",
        ),
        (
            Device(name="BLAS", kind="accelerator", description="A", takes_layers=False, free_memory=0, total_memory=0),
            "BLAS (accelerator): A",
        ),
    ],
)
def test_info_tells_memory_as_it_is(device: Device, line: str) -> None:
    assert _device(device) == line


# --- throttling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_a_pi_says_how_it_was_throttled(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert throttling(tmp_path) is None
    lay_out(tmp_path, {f"sys/devices/platform/{place}/get_throttled": "50005\n"})
    assert throttling(tmp_path) == "under-voltage now, throttled now"


def test_a_pi_without_that_file_is_asked_by_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, {"vcgencmd": "#!/bin/sh\necho throttled=0x50000\n"})
    (tmp_path / "vcgencmd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert throttling(tmp_path) == "under-voltage since boot, throttled since boot"
