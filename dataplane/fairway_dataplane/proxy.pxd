cimport cython

from fairway_dataplane.clock cimport Clock
from fairway_dataplane.exchange cimport Exchange
from fairway_dataplane.pages cimport Page
from fairway_dataplane.table cimport RouteEntry, Tables
from fairway_dataplane.upstream.backend_task cimport BackendTask
from fairway_dataplane.upstream.pool cimport Backend

cdef long long CHUNKED, NO_BODY
cdef long _MATCH_SAMPLE, _NOT_IMPLEMENTED


cdef class Proxy:
    cdef Clock _clock
    cdef Tables _tables
    cdef object _limits, _on_bug, _on_finished, _tally

    @cython.locals(route=RouteEntry, backend=Backend, task=BackendTask, number=cython.longlong)
    cpdef forward(self, Exchange exchange)
    @cython.locals(
        route=RouteEntry, backend=Backend, page=Page, at=cython.Py_ssize_t,
        bucket=cython.Py_ssize_t, seconds=double, upstream_seconds=double,
    )
    cpdef finished(self, Exchange exchange)
    @cython.locals(route=RouteEntry, backend=Backend, framing=bytes, head=bytes, length=cython.longlong)
    cpdef connected(self, Exchange exchange, BackendTask task)
    cpdef failed(self, Exchange exchange, error)
    cpdef bint disliked(self, Exchange exchange)
    cpdef crashed(self, Exchange exchange, bug)
    cpdef note_bug(self, bytes request_id, bug)
    cdef _match_and_measure(self, Exchange exchange)
    cdef bint _admit_body(self, Exchange exchange, RouteEntry route)
    cdef _refuse(self, Exchange exchange, reason)
    @cython.locals(route=RouteEntry, backend=Backend)
    cdef bint _retry(self, Exchange exchange)
