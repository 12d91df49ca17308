"""
TLS on both sides, without threads and without the event loop's own TLS.

OpenSSL works on two memory buffers (``ssl.MemoryBIO``) and never sees a
socket; a protocol of ours moves the bytes. :mod:`~fairway_dataplane.tls.hello`
reads which name a client asks for, :mod:`~fairway_dataplane.tls.contexts` says
which certificate answers it, :mod:`~fairway_dataplane.tls.server` and
:mod:`~fairway_dataplane.tls.client` speak TLS through the layer they share.
The rule of the package: whatever the peer sends, its cost is bounded, it ends
at most its own connection, and it is counted rather than logged.
"""
