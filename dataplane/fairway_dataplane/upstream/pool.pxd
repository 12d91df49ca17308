cimport cython

from fairway_dataplane.clock cimport Clock
from fairway_dataplane.exchange cimport Exchange
from fairway_dataplane.upstream.backend_task cimport BackendTask
from fairway_dataplane.upstream.health cimport Endpoint


cdef class Backend:
    cdef readonly object tally
    cdef readonly bint tls
    cdef public bint attentive
    cdef bint _bounded
    cdef public long waiting
    cdef Clock _clock
    cdef readonly object _breaker
    cdef object _agreed, _balancer, _checks, _connector, _judge, _limits, _review
    cdef readonly dict _endpoints, _by_name
    cdef readonly object id, server_name

    @cython.locals(endpoint=Endpoint, task=BackendTask)
    cpdef checkout(self, Exchange exchange, double connect_seconds)
