"""The side of the clients: who may connect, what may be asked, how it is answered."""
