"""Machines in a dozen numbers. Those marked ASSUMED were not measured: calibrate before trusting.

Units: seconds, bytes, floating-point operations; rates are of one direction.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way between two devices: a message of n bytes takes `latency + n / bandwidth`."""

    latency: float
    """Time before the first byte arrives [s]."""

    bandwidth: float
    """Rate at which bytes arrive [B/s]."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.latency < 0 or not self.bandwidth > 0:
            raise ValueError(
                f"link: expected a latency of 0 or more and a positive bandwidth, got "
                f"{self.latency} and {self.bandwidth}"
            )

    def seconds(self, nbytes: float) -> float:
        """Return how long a message takes.

        Examples:
            >>> Link(latency=1e-6, bandwidth=1e9).seconds(1e6)
            0.001001
        """
        return self.latency + nbytes / self.bandwidth


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Nodes of equal devices."""

    name: str
    """What it is called."""

    devices_per_node: int
    """How many processes a node has, one for each device."""

    devices: int
    """How many there are in all."""

    peak: float
    """Matrix products of a device in the data type of the run, at best [FLOP/s]."""

    achieved: float
    """Which part of the peak large matrix products reach, 0 to 1."""

    half_width: float
    """Width of a matrix at which half of that is reached."""

    memory: float
    """Memory of a device [B]."""

    memory_bandwidth: float
    """Rate of that memory [B/s]."""

    layer_overhead: float
    """Time that a layer takes forward and backward however small it is (kernel launches) [s]."""

    node: Link
    """Between two devices of a node."""

    network: Link
    """From a node to another; its bandwidth is shared by the devices of the node."""


FRONTIER = Machine(
    name="Frontier",
    devices_per_node=8,
    devices=8 * 9_856,
    peak=191.5e12,
    achieved=0.42,
    half_width=256,
    memory=64e9,
    memory_bandwidth=1.6e12,
    layer_overhead=60 * 6e-6,
    node=Link(latency=8e-6, bandwidth=0.7 * 50e9),
    network=Link(latency=15e-6, bandwidth=0.7 * 100e9),
)
"""OLCF Frontier; a device is one of the two dies (GCD) of an MI250X.

Source: OLCF, Frontier user guide, https://docs.olcf.ornl.gov/systems/frontier_user_guide.html:
9,856 nodes of 8 dies, 64 GB each, 50 to 200 GB/s between dies (the slowest is taken), four
25 GB/s links to the network a node. AMD, MI250X data sheet: 383 TFLOP/s of bfloat16 and 3.2 TB/s
for two dies. ASSUMED: latencies, 70 % of the links' rates, 60 kernels of 6 us a layer; `achieved`
so that 77.5 TFLOP/s a die are reached, the published 1.6 EFLOP/s on 32,768 over 0.63.
"""

H200_NODES = Machine(
    name="H200 nodes",
    devices_per_node=8,
    devices=8 * 128,
    peak=989e12,
    achieved=0.5,
    half_width=512,
    memory=141e9,
    memory_bandwidth=4.8e12,
    layer_overhead=60 * 4e-6,
    node=Link(latency=5e-6, bandwidth=0.7 * 450e9),
    network=Link(latency=10e-6, bandwidth=0.7 * 8 * 50e9),
)
"""Nodes of eight H200 with one 400 Gb/s adapter each.

Source: NVIDIA, H200 data sheet: 989 TFLOP/s of dense bfloat16, 141 GB, 4.8 TB/s, NVLink 900 GB/s
in both directions. ASSUMED: all the rest.
"""

LAPTOP = Machine(
    name="laptop",
    devices_per_node=2,
    devices=2,
    peak=50e9,
    achieved=0.8,
    half_width=32,
    memory=8e9,
    memory_bandwidth=10e9,
    layer_overhead=1e-3,
    node=Link(latency=200e-6, bandwidth=1e9),
    network=Link(latency=200e-6, bandwidth=1e9),
)
"""Two cores that talk over gloo. ASSUMED throughout: `bench/scaling.py` measures its own."""
