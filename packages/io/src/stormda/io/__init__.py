"""Earth-system fields, observations and ensembles in and out of files.

Gridded NetCDF is opened by its metadata and read piece by piece (`open_store`); what is written is
CF NetCDF-4 and appears complete or not at all.
"""

from stormda.io.atomic import atomic_path
from stormda.io.cf_file import read_provenance
from stormda.io.cost import ReadAmplificationWarning, ReadCost
from stormda.io.csv_points import ColumnMapping, Quantity
from stormda.io.cycling import Cycle, EnsembleWriter
from stormda.io.decoding import decode
from stormda.io.ensemble import Ensemble, read_ensemble, write_ensemble, write_fields
from stormda.io.ensemble_parts import EnsembleParts
from stormda.io.ensemble_zarr import EnsembleZarr
from stormda.io.files import sha256
from stormda.io.gathering import GatheredBlock, VariableStatistics, gather_blocks
from stormda.io.index import LevelAxis, VariableMeta
from stormda.io.layout import FieldAxes
from stormda.io.moments import Moments, moments
from stormda.io.observation_files import read_observations
from stormda.io.observations import ObservationTable, observation_table, passes
from stormda.io.parts import Parts
from stormda.io.permutation import SampleOrder
from stormda.io.point_files import write_observations
from stormda.io.rechunking import Pieces, local_copy, rechunk
from stormda.io.regions import Region
from stormda.io.rounding import bit_round
from stormda.io.statistics import Statistics
from stormda.io.store import Store, open_store
from stormda.io.summary import write_summary
from stormda.io.tile_dataset import Rank, TileDataset
from stormda.io.times import decode_times, encode_times
from stormda.io.units import Unit, convert, parse_unit
from stormda.io.windows import WindowConfig, split, windows

__all__ = [
    "ColumnMapping",
    "Cycle",
    "Ensemble",
    "EnsembleParts",
    "EnsembleWriter",
    "EnsembleZarr",
    "FieldAxes",
    "GatheredBlock",
    "LevelAxis",
    "Moments",
    "ObservationTable",
    "Parts",
    "Pieces",
    "Quantity",
    "Rank",
    "ReadAmplificationWarning",
    "ReadCost",
    "Region",
    "SampleOrder",
    "Statistics",
    "Store",
    "TileDataset",
    "Unit",
    "VariableMeta",
    "VariableStatistics",
    "WindowConfig",
    "atomic_path",
    "bit_round",
    "convert",
    "decode",
    "decode_times",
    "encode_times",
    "gather_blocks",
    "local_copy",
    "moments",
    "observation_table",
    "open_store",
    "parse_unit",
    "passes",
    "read_ensemble",
    "read_observations",
    "read_provenance",
    "rechunk",
    "sha256",
    "split",
    "windows",
    "write_ensemble",
    "write_fields",
    "write_observations",
    "write_summary",
]
