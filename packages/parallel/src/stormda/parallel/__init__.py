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
from stormda.parallel.cursor import SampleCursor
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
from stormda.parallel.heads import SourceHeads, share_ranks
from stormda.parallel.interruption import Interruption
from stormda.parallel.launch import StartedMesh, launch
from stormda.parallel.layers import ColumnLinear, RowLinear, blocks_inside, blocks_outside
from stormda.parallel.layout import Part, Split, local_of, module_parts, part_of, splits
from stormda.parallel.manifest import DamagedCheckpoint
from stormda.parallel.mesh import Mesh
from stormda.parallel.mpi_comm import MpiComm
from stormda.parallel.parts_reading import PartsCheckpoint, fill_from_file, open_parts
from stormda.parallel.parts_writing import PendingCheckpoint, save_parts, start_saving
from stormda.parallel.placement import Placement, read_placement
from stormda.parallel.planned import PlannedComm, planned
from stormda.parallel.recompute import recompute
from stormda.parallel.sample_store import SampleStore
from stormda.parallel.sharding import reduce_gradients, shard_parameters, whole_gradient_norm
from stormda.parallel.sizes import balanced_sizes, members
from stormda.parallel.streams import MemberStreams
from stormda.parallel.torch_comm import TorchComm
from stormda.parallel.training_state import (
    optimizer_options,
    restore_training,
    training_parts,
)
from stormda.parallel.ulysses import by_heads
from stormda.parallel.window_store import WindowStore

__all__ = [
    "Border",
    "Checkpoint",
    "ColumnLinear",
    "Communicator",
    "DamagedCheckpoint",
    "Domain",
    "Exchange",
    "HaloMessages",
    "HaloPlan",
    "Interruption",
    "MemberStreams",
    "Mesh",
    "MpiComm",
    "Part",
    "PartsCheckpoint",
    "PendingCheckpoint",
    "Placement",
    "PlannedComm",
    "RowLinear",
    "SampleCursor",
    "SampleStore",
    "SelfComm",
    "SourceHeads",
    "Split",
    "StartedHalo",
    "StartedMesh",
    "TorchComm",
    "WindowStore",
    "balanced_sizes",
    "blocks_inside",
    "blocks_outside",
    "broadcast_parameters",
    "by_heads",
    "clip_gradients",
    "copy_in",
    "exchange",
    "fill_from_file",
    "gather",
    "gather_invariant",
    "gradient_norm",
    "halo",
    "halo_messages",
    "halo_plan",
    "intact_checkpoints",
    "launch",
    "load_checkpoint",
    "local_of",
    "members",
    "merge_weights",
    "module_parts",
    "open_parts",
    "optimizer_options",
    "overlap_add",
    "parameter_checksum",
    "part_of",
    "planned",
    "prefix_sum",
    "psum",
    "read_placement",
    "recompute",
    "reduce_gradients",
    "reduce_out",
    "reshard",
    "restore_training",
    "ring_shift",
    "save_checkpoint",
    "save_parts",
    "scatter_sum",
    "shard_parameters",
    "share_ranks",
    "split",
    "splits",
    "start_exchange",
    "start_halo",
    "start_saving",
    "sum_gradients",
    "training_parts",
    "whole_gradient_norm",
    "with_halo",
]
