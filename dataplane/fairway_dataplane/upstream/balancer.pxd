cimport cython

from fairway_dataplane.exchange cimport Exchange
from fairway_dataplane.upstream.health cimport Endpoint


cdef class RoundRobin:
    cdef tuple _endpoints
    cdef Py_ssize_t _next

    @cython.locals(endpoints=tuple, at=cython.Py_ssize_t, endpoint=Endpoint)
    cpdef choose(self, Exchange exchange, double now)
