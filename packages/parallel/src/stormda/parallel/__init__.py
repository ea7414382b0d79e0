"""Named process meshes, differentiable collectives and safe checkpoints."""

from stormda.parallel.checkpoint import (
    Checkpoint,
    intact_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from stormda.parallel.collectives import (
    copy_in,
    gather,
    gather_invariant,
    psum,
    reduce_out,
    scatter_sum,
    split,
)
from stormda.parallel.communicator import Communicator, SelfComm
from stormda.parallel.domain import Border, Domain
from stormda.parallel.exchange import (
    Exchange,
    exchange,
    prefix_sum,
    reshard,
    ring_shift,
    start_exchange,
)
from stormda.parallel.gradients import (
    broadcast_parameters,
    clip_gradients,
    gradient_norm,
    parameter_checksum,
    sum_gradients,
)
from stormda.parallel.halo import (
    StartedHalo,
    halo,
    merge_weights,
    overlap_add,
    start_halo,
    with_halo,
)
from stormda.parallel.halo_messages import HaloMessages, halo_messages
from stormda.parallel.halo_plan import HaloPlan, halo_plan
from stormda.parallel.interruption import Interruption
from stormda.parallel.launch import StartedMesh, launch
from stormda.parallel.manifest import DamagedCheckpoint
from stormda.parallel.mesh import Mesh
from stormda.parallel.mpi_comm import MpiComm
from stormda.parallel.placement import Placement, read_placement
from stormda.parallel.planned import PlannedComm, planned
from stormda.parallel.sizes import balanced_sizes, members
from stormda.parallel.torch_comm import TorchComm
from stormda.parallel.ulysses import by_heads

__all__ = [
    "Border",
    "Checkpoint",
    "Communicator",
    "DamagedCheckpoint",
    "Domain",
    "Exchange",
    "HaloMessages",
    "HaloPlan",
    "Interruption",
    "Mesh",
    "MpiComm",
    "Placement",
    "PlannedComm",
    "SelfComm",
    "StartedHalo",
    "StartedMesh",
    "TorchComm",
    "balanced_sizes",
    "broadcast_parameters",
    "by_heads",
    "clip_gradients",
    "copy_in",
    "exchange",
    "gather",
    "gather_invariant",
    "gradient_norm",
    "halo",
    "halo_messages",
    "halo_plan",
    "intact_checkpoints",
    "launch",
    "load_checkpoint",
    "members",
    "merge_weights",
    "overlap_add",
    "parameter_checksum",
    "planned",
    "prefix_sum",
    "psum",
    "read_placement",
    "reduce_out",
    "reshard",
    "ring_shift",
    "save_checkpoint",
    "scatter_sum",
    "split",
    "start_exchange",
    "start_halo",
    "sum_gradients",
    "with_halo",
]
