"""The host of a device as an actor of a Ray cluster: a lost node's cameras go on on another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from vision_mem._version import __version__
from vision_mem.errors import VisionMemError
from vision_mem.evaluation.engine.processes import deaf_to_interrupts
from vision_mem.evaluation.engine.ray import connected_ray
from vision_mem.fleet.camera_run import CameraStatus
from vision_mem.fleet.device_host import DeviceHost, HostLost, HostPlan

_ANSWER_S = 5.0
_PLACED_S = 60.0
_POLL_S = 0.5
_CLOSED_S = 30.0


class RayHost:
    """A ``DeviceHost`` somewhere in the cluster. Results go to the disk that all machines share.

    Args:
        ray: connected.
        plan: what it is made of; ``auto`` takes a GPU where the cluster has one.
        gpus: GPUs that it needs.

    Raises:
        HostLost: when no node has room for it.
        VisionMemError: when its node has another version.
    """

    def __init__(self, ray: Any, plan: HostPlan, gpus: float) -> None:
        self._ray, self.device = ray, plan.device
        kind = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_concurrency=4)(DeviceHost)
        self._actor = kind.remote(plan)
        self._statuses: list[CameraStatus] = []
        self._asked: Any = None
        self._polled_at = 0.0
        version = self._get(self._actor.version.remote(), _PLACED_S)
        if version != __version__:
            raise VisionMemError(
                f"a node has vision-mem {version}, here it is {__version__}; install the same "
                "version on all machines"
            )
        self.pid: int | None = self._get(self._actor.pid.remote(), _ANSWER_S)

    def _get(self, reference: Any, timeout_s: float) -> Any:
        try:
            return self._ray.get(reference, timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError:
            raise HostLost("no node has room for it, or it does not answer") from None
        except self._ray.exceptions.RayError as error:
            raise HostLost(" ".join(str(error).split())[:200]) from None

    def ask(self, method: str, *arguments: Any) -> None:
        """Have a method of ``DeviceHost`` called."""
        self._get(getattr(self._actor, method).remote(*arguments), _ANSWER_S)

    def poll(self) -> Sequence[CameraStatus]:
        """What it last said; asks again now and then."""
        if self._asked is None and time.monotonic() - self._polled_at > _POLL_S:
            self._asked, self._polled_at = self._actor.status.remote(), time.monotonic()
        if self._asked is not None:
            done, _ = self._ray.wait([self._asked], timeout=0)
            if done:
                self._statuses, self._asked = self._get(self._asked, _ANSWER_S), None
            elif time.monotonic() - self._polled_at > _PLACED_S:
                raise HostLost("it does not answer")
        return self._statuses

    def close(self) -> Sequence[CameraStatus]:
        """Let it finish all files."""
        with suppress(HostLost):
            self._statuses = self._get(self._actor.close.remote(), _CLOSED_S)
        self.abandon()
        return self._statuses

    def abandon(self) -> None:
        """Make sure that it is gone."""
        with suppress(Exception):
            self._ray.kill(self._actor)


@contextmanager
def ray_hosts(address: str, workers: int) -> Iterator[Callable[[HostPlan], RayHost]]:
    """What begins hosts on a cluster, which is left at the end.

    Args:
        address: of the cluster, ``auto`` or ``local``.
        workers: hosts that there will be.

    Raises:
        MissingExtra: when Ray is not installed.
        InputError: when there is no cluster under this address.
    """
    with ExitStack() as stack:
        with deaf_to_interrupts():  # Ctrl-C is for the owner, not for a cluster that is begun here
            cluster = connected_ray(address, workers if address == "local" else None)
            ray = stack.enter_context(cluster)
        gpus = float(ray.cluster_resources().get("GPU", 0))

        def begin(plan: HostPlan) -> RayHost:
            wanted = min(1.0, gpus / workers) if plan.device in ("auto", "cuda") else 0.0
            return RayHost(ray, plan, wanted)

        yield begin
