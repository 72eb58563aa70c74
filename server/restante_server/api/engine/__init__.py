"""The RPC machinery: proof of identity, rights, turns, limits, deadlines, request ids and errors."""
