cimport cython

from fairway_dataplane.exchange cimport Exchange
from fairway_dataplane.pages cimport Page
from fairway_dataplane.upstream.pool cimport Backend

cdef Py_hash_t MASK


cdef class RouteEntry:
    cdef readonly Page page
    cdef readonly Py_ssize_t at
    cdef readonly Backend backend
    cdef readonly object chain, retry_codes
    cdef readonly double connect_seconds, backend_request_seconds, idle_seconds, request_seconds
    cdef readonly bint allow_encoded_slash
    # Seldom read.
    cdef readonly long retry_attempts
    cdef readonly long long max_body_bytes
    cdef readonly object retry_budget, split, tally
    cdef readonly str name


cdef class HostEntry:
    cdef object _matcher
    cdef bint _reads_fields

    cpdef match(self, Exchange exchange)


cdef class RoutingTable:
    cdef readonly object _index, hosts
    cdef readonly tuple _lone

    @cython.locals(host=bytes, path=bytes, shard=dict, entry=RouteEntry)
    cpdef match(self, Exchange exchange)


cdef class Tables:
    cdef public RoutingTable current
