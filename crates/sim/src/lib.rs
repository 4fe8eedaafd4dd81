//! Simulated disk, network faults, workloads, history checker.
