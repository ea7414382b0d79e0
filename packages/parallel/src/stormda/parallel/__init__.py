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
from stormda.parallel.gradients import (
    broadcast_parameters,
    clip_gradients,
    gradient_norm,
    parameter_checksum,
    sum_gradients,
)
from stormda.parallel.heads import SourceHeads, share_ranks
from stormda.parallel.interruption import Interruption
from stormda.parallel.launch import StartedMesh, launch
from stormda.parallel.layers import ColumnLinear, RowLinear
from stormda.parallel.layout import Part, Split, module_parts, part_of
from stormda.parallel.manifest import DamagedCheckpoint
from stormda.parallel.mesh import Mesh
from stormda.parallel.placement import Placement, read_placement
from stormda.parallel.reading import PartsCheckpoint, fill_from_file, open_parts
from stormda.parallel.recompute import recompute
from stormda.parallel.sharded_checkpoint import PendingCheckpoint, save_parts, start_saving
from stormda.parallel.sharding import reduce_gradients, shard_parameters, whole_gradient_norm
from stormda.parallel.sizes import balanced_sizes, members
from stormda.parallel.store import SampleStore
from stormda.parallel.streams import MemberStreams
from stormda.parallel.torch_comm import TorchComm
from stormda.parallel.training_state import (
    optimizer_options,
    restore_training,
    training_parts,
)
from stormda.parallel.window_store import WindowStore

__all__ = [
    "Checkpoint",
    "ColumnLinear",
    "Communicator",
    "DamagedCheckpoint",
    "Interruption",
    "MemberStreams",
    "Mesh",
    "Part",
    "PartsCheckpoint",
    "PendingCheckpoint",
    "Placement",
    "RowLinear",
    "SampleCursor",
    "SampleStore",
    "SelfComm",
    "SourceHeads",
    "Split",
    "StartedMesh",
    "TorchComm",
    "WindowStore",
    "balanced_sizes",
    "broadcast_parameters",
    "clip_gradients",
    "copy_in",
    "fill_from_file",
    "gather",
    "gather_invariant",
    "gradient_norm",
    "intact_checkpoints",
    "launch",
    "load_checkpoint",
    "members",
    "module_parts",
    "open_parts",
    "optimizer_options",
    "parameter_checksum",
    "part_of",
    "psum",
    "read_placement",
    "recompute",
    "reduce_gradients",
    "reduce_out",
    "restore_training",
    "save_checkpoint",
    "save_parts",
    "scatter_sum",
    "shard_parameters",
    "share_ranks",
    "split",
    "start_saving",
    "sum_gradients",
    "training_parts",
    "whole_gradient_norm",
]
