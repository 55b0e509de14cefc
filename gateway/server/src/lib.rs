//! The gatehouse program: wires the rooms in flow order; engine, admin API, command line.
