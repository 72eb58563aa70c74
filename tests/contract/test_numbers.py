"""The store keeps numbers of the contract's enums under its own names, so that it need not know the contract."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest

from restante.v1 import admin_pb2, folder_pb2, job_pb2, message_pb2, search_pb2, signing_pb2, submission_pb2
from restante_server.directory.domain_keys import KeyState
from restante_server.directory.domains import Resending
from restante_server.directory.signing_keys import Algorithm
from restante_server.store.flags import FlagChange
from restante_server.store.folders import Role
from restante_server.store.removal import Mode
from restante_server.store.restriction import Comparison, Moment, Property, TextField
from restante_server.transport.states import Notify, Return, State
from restante_server.upkeep.jobs.records import JobKind, JobState


@pytest.mark.parametrize(
    ("ours", "contract", "prefix"),
    [
        (Role, folder_pb2.FolderRole, "FOLDER_ROLE_"),
        (FlagChange, message_pb2.FlagOperation, "FLAG_OPERATION_"),
        (Mode, message_pb2.DeleteMode, "DELETE_MODE_"),
        (TextField, search_pb2.TextField, "TEXT_FIELD_"),
        (Property, search_pb2.CompareProperty, "COMPARE_PROPERTY_"),
        (Comparison, search_pb2.Comparison, "COMPARISON_"),
        (Moment, search_pb2.TimeProperty, "TIME_PROPERTY_"),
        (State, submission_pb2.RecipientState, "RECIPIENT_STATE_"),
        (Notify, submission_pb2.NotifyCondition, "NOTIFY_CONDITION_"),
        (Return, submission_pb2.DsnReturn, "DSN_RETURN_"),
        (Resending, admin_pb2.ResendingPolicy, "RESENDING_POLICY_"),
        (Algorithm, signing_pb2.SigningAlgorithm, "SIGNING_ALGORITHM_"),
        (KeyState, signing_pb2.DomainKeyState, "DOMAIN_KEY_STATE_"),
        (JobKind, job_pb2.JobKind, "JOB_KIND_"),
        (JobState, job_pb2.JobState, "JOB_STATE_"),
    ],
)
def test_numbers_and_names_are_those_of_the_contract(ours: type[IntEnum], contract: Any, prefix: str) -> None:
    named = {name.removeprefix(prefix): number for name, number in contract.items() if number}
    assert {member.name: member.value for member in ours if member.value} == named
