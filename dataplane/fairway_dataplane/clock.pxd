cdef class Clock:
    cdef object _handle, _loop, _read
    cdef dict _due
    cdef readonly list _slots
    cdef long long _tick
    cdef long long _watched
    cdef readonly double now

    cpdef watch(self, watched)
    cpdef forget(self, watched)
    cpdef hasten(self, watched)
    cpdef advance(self)
    cdef _begin(self)
    cdef _look(self)
    cdef _remove(self, watched)
    cdef long _ticks_until(self, double deadline)
    cdef _place(self, watched, long ticks)
