"""The handlers of the RPCs, a module or a few for each service of the contract."""
