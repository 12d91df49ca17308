cdef class Endpoint:
    cdef public list idle
    cdef public long active, idle_limit
    cdef public double retry_at, answer_seconds
    cdef public long long answers
    cdef public str name
    cdef public bint removed
    # Of less interest to requests.
    cdef public bint barred, unwell
    cdef public long ejections, failures, opening, port, proxy_protocol, slow_answers, strikes
    cdef public double answered_at, came_at, ejected_until, latency, slow_since
    cdef public double unreached_until, warm_since
    cdef public object host, key, tally
