"""Earth-system fields, observations and ensembles in and out of files.

Gridded NetCDF is opened by its metadata and read piece by piece (`open_store`); what is written is
CF NetCDF-4 and appears complete or not at all.
"""

from stormda.io.atomic import atomic_path
from stormda.io.candidates import observation_table
from stormda.io.cf_file import read_provenance
from stormda.io.choice import VariableNotFound
from stormda.io.cost import ReadAmplificationWarning, ReadCost
from stormda.io.cycling import Cycle, EnsembleWriter
from stormda.io.decoding import decode
from stormda.io.ensemble import Ensemble, read_ensemble, write_ensemble, write_fields
from stormda.io.ensemble_parts import EnsembleParts
from stormda.io.ensemble_zarr import EnsembleZarr
from stormda.io.feedback import Feedback, write_feedback
from stormda.io.files import sha256
from stormda.io.gathering import GatheredBlock, VariableStatistics, gather_blocks
from stormda.io.index import LevelAxis, VariableMeta
from stormda.io.ioda_writing import write_ioda
from stormda.io.known_mappings import ARM_SONDE, ARM_SURFACE, ICOADS, METAR_CSV, SAO
from stormda.io.layout import FieldAxes
from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.moments import Moments, moments
from stormda.io.observation_files import read_observations
from stormda.io.observations import ObservationTable, join_tables
from stormda.io.parquet_points import write_parquet
from stormda.io.parts import Parts
from stormda.io.passes import passes
from stormda.io.permutation import SampleOrder
from stormda.io.point_files import write_observations
from stormda.io.quality import Quality
from stormda.io.rechunking import Pieces, local_copy, rechunk
from stormda.io.regions import Region
from stormda.io.repeats import resolve_repeats
from stormda.io.rounding import bit_round
from stormda.io.statistics import Statistics
from stormda.io.store import Store, open_store
from stormda.io.summary import write_summary
from stormda.io.thinning import super_observations, thin
from stormda.io.tile_dataset import Rank, TileDataset
from stormda.io.times import decode_times, encode_times
from stormda.io.units import Unit, convert, parse_unit
from stormda.io.wind import wind_components
from stormda.io.windows import WindowConfig, split, windows

__all__ = [
    "ARM_SONDE",
    "ARM_SURFACE",
    "ICOADS",
    "METAR_CSV",
    "SAO",
    "ColumnMapping",
    "Cycle",
    "Ensemble",
    "EnsembleParts",
    "EnsembleWriter",
    "EnsembleZarr",
    "Feedback",
    "FieldAxes",
    "GatheredBlock",
    "LevelAxis",
    "Moments",
    "ObservationTable",
    "Parts",
    "Pieces",
    "Quality",
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
    "VariableNotFound",
    "VariableStatistics",
    "WindowConfig",
    "atomic_path",
    "bit_round",
    "convert",
    "decode",
    "decode_times",
    "encode_times",
    "gather_blocks",
    "join_tables",
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
    "resolve_repeats",
    "sha256",
    "split",
    "super_observations",
    "thin",
    "wind_components",
    "windows",
    "write_ensemble",
    "write_feedback",
    "write_fields",
    "write_ioda",
    "write_observations",
    "write_parquet",
    "write_summary",
]
