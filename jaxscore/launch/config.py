"""Flags of every experiment, as frozen dataclasses."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from jaxscore.launch.flags import Count, Fraction, Positive, Seed, check, require
from jaxscore.launch.optimizer import Optimizer as Optimizer

Restored = TypeVar("Restored")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mesh:
    """Layout of the devices of all processes; the batch is split over all devices."""

    data: int = -1
    """Number of copies of the training state; -1 for as many as the devices allow."""
    fsdp: int = 1
    """Number of devices over which each copy of the state is split; -1 for as many as there are."""

    def __post_init__(self):
        for name, value in vars(self).items():
            require(value == -1 or value >= 1, f"mesh.{name}", value, "must be -1, or at least 1")
        require(max(self.data, self.fsdp) > 0, "mesh.fsdp", self.fsdp, "only one of the two may be -1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Flags of every experiment; an experiment's own Config adds flags and sets defaults."""

    workdir: Path
    """Folder for checkpoints, samples, metrics and pictures; a run in this folder is resumed."""
    mode: Literal["all", "train", "sample", "evaluate"] = "all"
    """Stage to run; `all` runs the three stages in turn and skips completed ones."""
    seed: Seed = 0
    """Seed of all random numbers."""
    steps: Count = 1000
    """Number of training steps."""
    batch: Count = 256
    """Number of examples in a training step, over all devices."""
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    microbatches: Count = 1
    """Number of parts of the batch; gradients are computed part by part, to save memory."""
    remat: bool = False
    """Recompute activations for the gradient, block by block, to save memory."""
    nonfinite: Literal["halt", "skip"] = "halt"
    """Stop at a step whose loss or gradient is not finite, or skip it; its update is never saved."""
    distributed: bool = False
    """Join the other processes of the run; not needed under SLURM, MPI, or on a TPU pod."""
    heartbeat: Annotated[int, Meta(ge=5)] = 30
    """Number of seconds without a heartbeat after which another process counts as dead."""
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    ema_decay: Fraction = 0.999
    """Decay of the average of the parameters; samples are drawn with the average."""
    ema_halflife: Positive | None = None
    """Half-life of the average in images, in place of --ema-decay; EDM has 500,000 (Karras et al. 2022)."""
    ema_ramp: Positive | None = 0.05
    """Maximum half-life as a fraction of the images seen so far; None for no limit."""
    samples: Count = 1000
    """Number of samples that each sampler draws."""
    sample_batch: Count = 2000
    """Number of samples that are drawn at a time; the samples do not depend on it."""
    log_every: Count = 100
    """Number of steps between lines of metrics."""
    save_every: Count = 1000
    """Number of steps between checkpoints; the last step is always saved."""
    keep: Count = 2
    """Number of newest checkpoints that are kept."""
    keep_best: Annotated[int, Meta(ge=0)] = 0
    """Number of further checkpoints that are kept: those with the lowest mean loss since the one before, or
    with the lowest validation loss, if the experiment measures one."""
    keep_every: Count | None = None
    """Checkpoints whose step is a multiple of this number are kept forever."""
    snapshot_every: Count | None = None
    """Number of steps between snapshots of two averages, from which experiments.ema makes other averages."""
    export: Literal["npz", "png"] | None = None
    """Write the samples as 8-bit images into workdir/report/export too, for other programs' metrics."""
    inception: Path | None = None
    """File of pytorch-fid's Inception weights, pt_inception-2015-12-05-6726825d.pth; adds the FID."""
    fid_reference: Path | None = None
    """File .npz with mu and sigma of the FID's reference images; by default the data of the experiment."""
    picture_every: Count | None = None
    """Number of steps between pictures of 64 samples, which are drawn by the first sampler in training."""
    tensorboard: bool = False
    """Write metrics, pictures and histograms of the parameters to workdir/tensorboard as TensorBoard events
    too (needs jaxscore[tensorboard])."""

    def __post_init__(self):
        check(self)
        parts = self.microbatches
        require(self.batch % parts == 0, "microbatches", parts, f"must divide --batch {self.batch}")
        installed = importlib.util.find_spec("tensorboardX") is not None
        remedy = "tensorboardX is not installed; pip install 'jaxscore[tensorboard]'"
        require(installed or not self.tensorboard, "tensorboard", self.tensorboard, remedy)
        given = self.inception is not None or self.fid_reference is None
        require(given, "fid_reference", self.fid_reference, "needs --inception")
        self._check_average()

    def _check_average(self) -> None:
        default, halflife, ramp = type(self), self.ema_halflife, self.ema_ramp
        given = self.ema_decay != default.ema_decay
        remedy = f"excludes --ema-decay {self.ema_decay}; give --ema-decay {default.ema_decay}, the default"
        require(halflife is None or not given, "ema_halflife", halflife, remedy)
        unused = halflife is None and ramp != default.ema_ramp
        require(not unused, "ema_ramp", ramp, "has no effect without --ema-halflife")
        if self.optimizer.kind == "schedule-free":
            reason = (
                "has no effect with --optimizer.kind schedule-free, which samples from an average of its own"
            )
            require(halflife is None, "ema_halflife", halflife, reason)
            require(self.snapshot_every is None, "snapshot_every", self.snapshot_every, reason)
            reason += f"; give --ema-decay {default.ema_decay}, the default"
            require(not given, "ema_decay", self.ema_decay, reason)


def restored(kind: type[Restored], fields: Any) -> Restored:
    """Returns the configuration of class `kind` with these fields, which were read from a config.json.

    Raises:
        TypeError: with a text of one line, if a field is unknown, missing, of a wrong type, or refused by
            `kind`.
    """
    try:
        config = msgspec.convert(fields, kind, dec_hook=lambda hint, value: hint(value))  # for Path
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from None
    unknown = _unknown(fields, dataclasses.asdict(config))
    if unknown:
        raise TypeError(f"there is no field {sorted(unknown)[0]!r}")
    return config


def _unknown(fields: dict[str, Any], known: dict[str, Any]) -> set[str]:
    """Returns the names in `fields`, at any depth, that are not in `known`; msgspec ignores unknown names."""
    here = fields.keys() - known.keys()
    nested = [name for name, value in fields.items() if name in known and isinstance(value, dict)]
    return here.union(*(_unknown(fields[name], known[name]) for name in nested))
