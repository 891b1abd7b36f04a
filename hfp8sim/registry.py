"""A table of records by name, for formats and profiles."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from hfp8sim.errors import InputError, unknown


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Record = TypeVar("Record", bound=_Named)


class Registry(Generic[Record]):
    """Records by name, in order of registration.

    Attributes:
        what: what a record is, for error messages.
        records: the records by name.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.records: dict[str, Record] = {}

    def register(self, record: Record) -> Record:
        """Add a record under its name, and return it; `InputError` if another record has that name."""
        if self.records.get(record.name, record) != record:
            raise InputError(
                f"{self.what} name {record.name!r} is taken by a different {self.what}"
            )
        self.records[record.name] = record
        return record

    def names(self) -> list[str]:
        """The names in order of registration."""
        return list(self.records)

    def find(self, name: str) -> Record:
        """The record with that name; `InputError` for an unknown one."""
        if name not in self.records:
            raise unknown(self.what, name, self.names())
        return self.records[name]
