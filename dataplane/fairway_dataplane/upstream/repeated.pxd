from fairway_dataplane.exchange cimport Exchange

cdef bytes _NOTHING


cdef class RepeatedHead:
    cdef bytes _fields, _head, _status_line
    cdef long long _length
    cdef long _status

    cpdef bint read(self, bytes data, Exchange exchange)
    cpdef learn(self, bytes data, Exchange exchange)
