"""The choice of each dataset's policy, when it is mounted: tried on a file of its own.

A policy that this machine cannot keep is refused with the reason, unless the configuration names
another one for that case (`fallback`). What is chosen stands in every record.
"""

import dataclasses
import errno
import logging
import os
from collections.abc import Callable, Sequence

from nightingale_hub.errors import MountRefused
from nightingale_hub.fuse_audit import control
from nightingale_hub.fuse_audit.configuration import Dataset
from nightingale_hub.fuse_audit.descriptor import Descriptor
from nightingale_hub.fuse_audit.policy import Policy
from nightingale_hub.fuse_audit.ranges import Watch

_TRIED_DIRECTORIES = 1000
_REASONS = {
    errno.EPERM: "only root may let the kernel read files by itself",
    errno.ENOTTY: "this kernel has no FUSE passthrough, which came with Linux 6.9",
    errno.EOPNOTSUPP: "this kernel was built without FUSE passthrough",
    errno.ELOOP: "the dataset lies on a filesystem that is stacked too high for passthrough",
}

_log = logging.getLogger(__name__)


class Trial:
    """What can be served through one device: each policy is tried, none is assumed."""

    def __init__(self, device: int, mount: int, sources: dict[str, Descriptor]) -> None:
        """Try on the mount's *device*, its `st_dev` being *mount*, with files of the *sources*."""
        self._device = device
        self._mount = mount
        self._sources = sources
        self.watch: Watch | None = None

    def find_obstacle(self, dataset: Dataset, policy: Policy) -> str | None:
        """Return why *policy* cannot be kept for *dataset* here, or None when it can."""
        if policy.has_every_read:
            return None
        file = _find_file(self._sources[dataset.name])
        if file is None:
            return "the dataset has no file that it could be tried on"
        try:
            control.give_back(self._device, control.register(self._device, file.fd))
        except OSError as error:
            return _REASONS.get(error.errno or 0, f"passthrough fails: {error.strerror}")
        return self._find_ranges_obstacle(file) if policy.has_ranges else None

    def _find_ranges_obstacle(self, file: Descriptor) -> str | None:
        try:
            self.watch = self.watch or Watch(self._mount)
            self.watch.add(os.fstat(file.fd).st_dev)
            self.watch.check(f"/proc/self/fd/{file.fd}")
        except MountRefused as error:
            return str(error)
        except OSError as error:
            return f"the kernel does not tell what is read: {error.strerror}"
        return None


def choose(
    datasets: Sequence[Dataset], find_obstacle: Callable[[Dataset, Policy], str | None]
) -> tuple[Dataset, ...]:
    """Return *datasets* with the policies that are served; raises `MountRefused`."""
    return tuple(_choose(dataset, find_obstacle) for dataset in datasets)


def _choose(dataset: Dataset, find_obstacle: Callable[[Dataset, Policy], str | None]) -> Dataset:
    reasons: list[str] = []
    for policy in (dataset.policy, dataset.fallback):
        if policy is None:
            continue
        reason = find_obstacle(dataset, policy)
        if reason is None:
            if reasons:
                _log.warning(
                    "dataset %s is served as %s: %s", dataset.name, policy.name, reasons[0]
                )
            return dataclasses.replace(dataset, policy=policy)
        reasons.append(f"{policy.name}: {reason}")
    raise MountRefused(
        f"dataset {dataset.name} cannot be audited by its policy here ({'; '.join(reasons)}); "
        'choose another policy for it, or let it fall back to "strict"'
    )


def _find_file(source: Descriptor) -> Descriptor | None:
    """Return some regular file of *source* that has bytes, open, or None."""
    top = f"/proc/self/fd/{source.fd}"
    for tried, (folder, _, names) in enumerate(os.walk(top)):
        for name in sorted(names):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                path = os.path.join(folder, name)
                if not os.path.isfile(path) or not os.lstat(path).st_size:
                    continue
                return Descriptor(os.open(path, flags))
            except OSError:
                continue
        if tried > _TRIED_DIRECTORIES:
            break
    return None
