"""The machinery that runs any RPC: proof of identity, rights, turns, limits, deadlines, request ids and errors."""
