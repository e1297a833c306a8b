"""The commands, a module a verb: flags are defined, read and turned into arguments of the library here alone."""
