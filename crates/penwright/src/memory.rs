//! How much memory there is.

/// Memory free for use, in bytes; limits of a container count.
pub fn free_memory() -> u64 {
    let Ok(mut system) = sysinfo::System::new() else { return u64::MAX };
    system.refresh_memory();
    let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    match system.available_memory().min(limit) {
        0 => u64::MAX, // not known on this system
        free => free,
    }
}
