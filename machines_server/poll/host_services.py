"""What an answer says about a service: only whether there is one."""

from machines_server.core.host_services import FIRST_FAILURE_STATUS, ServiceResult, ServiceStatus
from machines_server.core.machine import HostService
from machines_server.poll.failures import Failure
from machines_server.poll.fetch import Fetched

_FIRST_FINAL_STATUS = 200


def service_result(machine: str, service: HostService, fetched: Fetched, at: float) -> ServiceResult:
    """How the poll of a service ended; a status counts even if the rest of the answer never came."""
    status = ServiceStatus.INACTIVE
    if fetched.failure is None or _FIRST_FINAL_STATUS <= (fetched.status or 0) < FIRST_FAILURE_STATUS:
        return ServiceResult(machine, service, ServiceStatus.ACTIVE, at)
    if fetched.failure is Failure.OWN:
        status = ServiceStatus.UNKNOWN
    return ServiceResult(machine, service, status, at, fetched.reason.text if fetched.reason else None)
