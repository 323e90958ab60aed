"""What one worker holds of Triton: a connection, the contract, one registered region, its slots."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import ContractError, MemoryRegionError, ServerError
from dualface_client.memory.region import Region, SystemRegion
from dualface_client.memory.slots import Lease, SizeClass, SlotPool, bytes_needed
from dualface_client.triton.access import Access
from dualface_client.triton.answers import AnswersApart
from dualface_client.triton.client import InferenceClient
from dualface_client.triton.connection import Connection
from dualface_client.triton.contract import ServedModel, check_contract
from dualface_client.triton.description import MODELS, ModelSpec
from dualface_client.triton.pending import PendingInference
from dualface_client.triton.recovery import Endurance, Recovery
from dualface_client.triton.registration import free, register
from dualface_client.triton.transport import (
    Bytes,
    SharedMemory,
    SlotLayout,
    Transport,
    TransportKind,
)


@dataclass(frozen=True, slots=True)
class SlotGroup:
    """Slots that a worker wants for one model.

    Attributes:
        batch: Most items in one request.
        count: Slots, that is requests that can be prepared or in flight at once.
    """

    batch: int
    count: int


class Session(ClosesAtExit):
    """Opens everything in the right order, and closes it in the opposite one.

    Thread-safe after construction. A context manager.
    """

    def __init__(  # noqa: PLR0913 - keywords, most of them with a default
        self,
        address: str,
        groups: Mapping[str, SlotGroup],
        *,
        specs: tuple[ModelSpec, ...] = MODELS,
        access: Access | None = None,
        check: Callable[[], None] = lambda: None,
        endurance: Endurance | None = None,
        ready_timeout_s: float = 10.0,
        request_timeout_s: float = 30.0,
        make_region: Callable[[int], Region] = SystemRegion,
        outputs_in_region: bool = True,
        transport: TransportKind = "shm",
    ) -> None:
        """Connects, checks the contract, allocates the region and registers it.

        Args:
            address: `HOST:PORT` of Triton's gRPC endpoint.
            groups: Slots by model name.
            specs: Models that the server must serve.
            access: Key and certificates; None for those that the environment names.
            check: Called while waiting for the server; raises to give up.
            endurance: What to do when the server goes away later; None for the default.
            ready_timeout_s: How long to wait for the server, seconds.
            request_timeout_s: Limit of every request, seconds.
            make_region: Allocates memory of a given byte size, of a kind that Triton can register.
            outputs_in_region: Whether answers are in the slots too; False for a region that the
                host cannot read, whose answers get a small system region of their own.
            transport: All but `shm` register nothing, and need a region that the host can read.

        Raises:
            ServerUnreachableError: The server is not there or not ready in time.
            ContractError: Its models differ.
            MemoryRegionError: No memory, or the server refuses it.
        """
        with contextlib.ExitStack() as undo:
            self.connection = Connection(address, access)
            undo.callback(self.connection.close)
            names = [spec.name for spec in specs]
            self.check = check
            self.connection.wait_ready(names, ready_timeout_s, check)
            self.models: dict[str, ServedModel] = check_contract(self.connection, specs)
            classes = self._classes(groups)
            self._regions: list[Region] = []
            region = make_region(bytes_needed(classes))
            undo.callback(region.close)
            if transport == "shm":
                self._registered(undo, region)
            self.pool = SlotPool(region, classes)
            apart = transport == "shm" and not outputs_in_region
            answers = self._answers_apart(undo, groups, classes) if apart else None
            self.client = InferenceClient(
                self.connection, request_timeout_s, _carrier(transport, answers)
            )
            undo.callback(self.client.close)
            self.recovery = Recovery(
                self.connection,
                self.client,
                self.pool,
                self._regions,
                names,
                self._check_models,
                endurance or Endurance(),
                check,
            )
            self._undo = undo.pop_all()

    def _registered(self, undo: contextlib.ExitStack, region: Region) -> Region:
        undo.callback(free, self.connection, region)
        register(self.connection, region)
        self._regions.append(region)
        return region

    def _check_models(self) -> None:
        """Compares what a server that came back serves with what the slots were made for."""
        specs = [served.spec for served in self.models.values()]
        found = check_contract(self.connection, specs)
        for spec in specs:
            if found[spec.name].spec != spec:
                raise ContractError(
                    f"{spec.name} at {self.connection.address}: the server came back with "
                    f"{found[spec.name].spec}, expected {spec}"
                )
        self.models = found

    def _classes(self, groups: Mapping[str, SlotGroup]) -> dict[str, SizeClass]:
        classes = {}
        for name, group in groups.items():
            limit = self.models[name].spec.max_batch_size
            if group.batch > limit:
                raise MemoryRegionError(
                    f"slots of {name} for batch {group.batch}: the server's limit is {limit}"
                )
            layout = SlotLayout.of(self.models[name].spec, group.batch)
            classes[name] = SizeClass(layout.byte_size, group.count)
        return classes

    def _answers_apart(
        self,
        undo: contextlib.ExitStack,
        groups: Mapping[str, SlotGroup],
        classes: Mapping[str, SizeClass],
    ) -> AnswersApart:
        """A registered region only for answers."""
        sizes = {
            name: group.batch * self.models[name].spec.output.byte_size
            for name, group in groups.items()
        }
        answers = AnswersApart(classes, sizes)
        self._registered(undo, answers.region)
        return answers

    def lease(self, model: str, timeout_s: float, label: str = "") -> Lease:
        """A slot for one request of a model; see `SlotPool.lease`.

        If half of the model's slots are in quarantine, the region is registered again first, and
        once more while all of them are held. A stop ends the wait.
        """

        def renew_if_worn() -> None:
            if self.pool.is_worn(model):
                self.recovery.renew()

        def meanwhile() -> None:
            self.check()
            renew_if_worn()

        renew_if_worn()
        return self.pool.lease(model, timeout_s, label, meanwhile)

    def input_array(self, model: str, lease: Lease, batch: int = 1) -> Any:
        """The slot's input as an array to fill.

        Args:
            model: Name of the model.
            lease: A slot of that model.
            batch: Items.

        Returns:
            Shape `(batch, *dims)` of the model's input type; a view of the region.
        """
        spec = self.models[model].spec
        return lease.array((batch, *spec.input.dims), spec.input.dtype)

    def infer_async(
        self,
        model: str,
        lease: Lease,
        batch: int = 1,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> PendingInference:
        """Starts a request on a filled slot; see `InferenceClient.infer_async`."""
        return self.client.infer_async(self.models[model].spec, lease, batch, timeout_s, priority)

    def recover(self, error: ServerError, epoch: int) -> None:
        """Makes the session usable after a request's failure; see `Recovery.after`."""
        self.recovery.after(error, epoch)

    def close(self) -> None:
        """Cancels what is in flight, unregisters, frees, disconnects; safe to call twice."""
        self._undo.close()


def _carrier(transport: TransportKind, answers: AnswersApart | None) -> Transport:
    if transport == "shm":
        return SharedMemory(answers)
    return Bytes("gzip" if transport == "gzip" else None)
