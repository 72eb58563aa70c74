"""The handlers of the RPCs, in one or a few modules for each service of the contract."""
