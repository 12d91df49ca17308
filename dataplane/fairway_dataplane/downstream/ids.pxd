cdef class RequestIds:
    cdef bytes _prefix
    cdef long long _number

    cpdef bytes next(self)
