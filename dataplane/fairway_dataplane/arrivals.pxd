cdef class Arrivals:
    cdef object _admits, _on_leave
    cdef dict _found

    cpdef bint add(self, connection)
    cpdef remove(self, connection)
    cpdef cut(self)
